//! When something new may start: what windows do to a rollout's expiry, and what people are told of
//! windows and freezes before they sign. Pure.

use proto::report::FreezeReport;
use proto::statement::{Rollout, UnixTime, Window};
use rollout::plan::EXPIRES_S;

use crate::knowledge::Facts;
use crate::render;

/// Until when a rollout with windows must be good: a day after the end of the window in which its
/// last wave can be through at the earliest. One that expired before would be signed in vain.
/// `created` where it has no windows.
pub(crate) fn expires(rollout: &Rollout) -> UnixTime {
    let windows = &rollout.windows[..];
    let after = |time: UnixTime, wait_s: u32| next_open(windows, time.plus_s(u64::from(wait_s)));
    let begin = next_open(windows, rollout.created);
    let through = rollout.waves.iter().fold(begin, |time, wave| after(time, wave.wait_s));
    let open = windows.iter().filter(|window| window.contains(through));
    match open.map(|window| window.next_close(through)).max() {
        Some(closes) => closes.plus_s(EXPIRES_S),
        None => rollout.created,
    }
}

/// When the first of the windows is open next, `time` itself where one is; without any, it always is.
fn next_open(windows: &[Window], time: UnixTime) -> UnixTime {
    windows.iter().map(|window| window.next_open(time)).min().unwrap_or(time)
}

/// What keeps a rollout waiting although it is signed, and when that ends.
pub(crate) fn notes(facts: &Facts, rollout: &Rollout) -> Vec<String> {
    let now = rollout.created;
    let mut notes = Vec::new();
    if !rollout.windows.is_empty() {
        let windows: Vec<_> = rollout.windows.iter().map(ToString::to_string).collect();
        let opens = next_open(&rollout.windows, now);
        let state = match opens == now {
            true => "one is open now".to_owned(),
            false => format!("none is open now, the next one opens {opens} UTC"),
        };
        notes.push(format!("hosts start only in its windows, {} UTC: {state}", windows.join("; ")));
    }
    let about = |freeze: &FreezeReport| match &freeze.host {
        None => Some(format!("{} is frozen", freeze.env)),
        Some(id) => {
            let own = rollout.rank_of(id).is_some();
            let host = facts.hosts.iter().map(|candidate| &candidate.host);
            let name = host.filter(|host| host.id == *id).map(|host| host.name.to_string()).next();
            own.then(|| format!("host {} is held", name.unwrap_or_else(|| id.to_string())))
        }
    };
    for freeze in facts.freezes.iter().filter(|freeze| freeze.in_force) {
        if let Some(about) = about(freeze) {
            notes.push(format!("{about}: nothing new starts {}", render::freeze::until(freeze)));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use proto::report::RolloutPhase;
    use proto::statement::{Direction, Wave};

    use super::*;
    use crate::render::sample;

    /// 2026-11-23, a Monday, 00:00 UTC.
    const MONDAY: u64 = 1_795_392_000;

    fn at(day: u64, hour: u64, minute: u64) -> UnixTime {
        UnixTime(MONDAY + day * 86_400 + hour * 3_600 + minute * 60)
    }

    fn rollout(created: UnixTime, windows: &[&str], waits_s: &[u32]) -> (Facts, Rollout) {
        let facts =
            sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Complete);
        let (_, mut rollout) = facts.head.clone().unwrap();
        let wave =
            |wait_s: &u32| Wave { hosts: 1, wait_s: *wait_s, failed_max: 0, unreachable_max: 0 };
        rollout.waves = waits_s.iter().map(wave).collect();
        rollout.windows = windows.iter().map(|text| text.parse().unwrap()).collect();
        rollout.created = created;
        (facts, rollout)
    }

    /// Name, signed when, windows, waits, good until.
    type Row<'a> = (&'a str, UnixTime, &'a [&'a str], &'a [u32], UnixTime);

    #[test]
    fn it_is_good_for_a_day_after_the_window_in_which_it_can_be_through() {
        let office: &[&str] = &["mon-fri 09:00-17:00"];
        let rows: [Row<'_>; 6] = [
            ("without windows", at(0, 10, 0), &[], &[3_600], at(0, 10, 0)),
            ("in one window", at(0, 10, 0), office, &[3_600, 0], at(1, 17, 0)),
            ("before it opens", at(0, 5, 0), office, &[0], at(1, 17, 0)),
            ("over the weekend", at(4, 16, 30), office, &[3_600, 0], at(8, 17, 0)),
            ("a week on", at(0, 12, 0), &["mon 09:00-10:00"], &[0], at(8, 10, 0)),
            (
                "the first of two",
                at(0, 12, 0),
                &["sat 09:00-10:00", "tue 09:00-10:00"],
                &[0],
                at(2, 10, 0),
            ),
        ];
        for (case, created, windows, waits_s, expected) in rows {
            let (_, rollout) = rollout(created, windows, waits_s);
            assert_eq!(expires(&rollout), expected, "{case}");
        }
    }

    #[test]
    fn closed_windows_and_freezes_are_told_with_when_they_end() {
        let (mut facts, mut rollout) = rollout(at(5, 12, 0), &["mon-fri 09:00-17:00"], &[0]);
        let told = notes(&facts, &rollout);
        let expected = "hosts start only in its windows, mon-fri 09:00-17:00 UTC: none is open now, \
                        the next one opens 2026-11-30 09:00:00 UTC";
        assert_eq!(told, [expected]);
        rollout.created = at(0, 9, 0);
        assert!(notes(&facts, &rollout)[0].ends_with("one is open now"));

        rollout.windows.clear();
        assert_eq!(notes(&facts, &rollout), Vec::<String>::new());
        let member = &facts.hosts[0].host;
        rollout.cohort = vec![proto::statement::CohortHost {
            id: member.id.clone(),
            key: member.key,
            zone: member.zone(),
        }];
        facts.freezes = vec![
            sample::freeze(None),
            sample::freeze(Some(facts.hosts[0].host.id.clone())),
            sample::freeze(Some(facts.hosts[1].host.id.clone())),
            FreezeReport { in_force: false, ..sample::freeze(None) },
        ];
        let until = "nothing new starts until 2027-01-15 10:00:00 UTC (by ada: audit)";
        let expected =
            [format!("production is frozen: {until}"), format!("host n1 is held: {until}")];
        assert_eq!(notes(&facts, &rollout), expected, "hosts that do not take part do not matter");
    }
}
