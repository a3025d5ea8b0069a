//! R7, R8: what members say of one host, by tables and over many drawn fleets.

use proptest::prelude::*;
use proto::record::to_text;

use super::*;
use crate::testing::host_id;

/// Place of the coordinator among the ids.
const COORDINATOR: usize = 99;

fn now(unix: u64) -> Now {
    Now { boot_ms: 1_000_000, unix: UnixTime(unix) }
}

fn heads(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn record(heads_of: &str, at: u64) -> String {
    to_text(&HostRecord {
        coordinator: false,
        version: "1".parse().unwrap(),
        at: UnixTime(at),
        heads: heads(heads_of),
    })
}

/// Other hosts in these zones, and a coordinator.
fn others(zones: &str) -> Others {
    let host = |(place, zone): (usize, char)| (host_id(place), zone.to_string().parse().unwrap());
    Others {
        coordinators: [host_id(COORDINATOR)].into(),
        hosts: zones.chars().enumerate().map(host).collect(),
    }
}

/// Place of who says it, heads, how far its clock is ahead.
type Said<'a> = (usize, &'a str, i64);

/// Judges what these said just now.
fn judged(others: &Others, said: &[Said<'_>]) -> Peers {
    let at: u64 = 1_000_000;
    let said: Vec<_> = said
        .iter()
        .map(|(place, of, off)| (host_id(*place), record(of, at.saturating_add_signed(*off))))
        .collect();
    let mut records = Records::default();
    records.observe(now(at), said.iter().map(|(host, text)| (host, text)));
    records.judge(now(at), heads("mine"), others)
}

#[test]
fn r7_who_confirms() {
    let (mine, other) = ("mine", "other");
    let day = i64::try_from(FRESH_S_MAX).unwrap();
    let cases: [(&str, &str, &[Said<'_>], bool); 17] = [
        ("alone in the fleet", "", &[], true),
        ("the only other one is silent", "a", &[], false),
        ("the only other one", "a", &[(0, mine, 0)], true),
        ("it knows of others", "a", &[(0, other, 0)], false),
        ("one of two", "aa", &[(0, mine, 0)], false),
        ("both", "aa", &[(0, mine, 0), (1, mine, 0)], true),
        ("two of three", "aaa", &[(0, mine, 0), (1, mine, 0), (2, other, 0)], false),
        ("two of many", "aaaaaa", &[(0, mine, 0), (1, mine, 0)], false),
        ("three of many", "aaaaaa", &[(0, mine, 0), (2, mine, 0), (4, mine, 0)], true),
        ("three of one zone", "aaabbb", &[(0, mine, 0), (1, mine, 0), (2, mine, 0)], false),
        ("three of two zones", "aaabbb", &[(0, mine, 0), (1, mine, 0), (3, mine, 0)], true),
        ("a stranger with two", "aaaa", &[(0, mine, 0), (1, mine, 0), (50, mine, 0)], false),
        ("the coordinator", "aaabbb", &[(COORDINATOR, mine, 0), (0, other, 0)], true),
        ("the coordinator knows of others", "aaaa", &[(COORDINATOR, other, 0)], false),
        ("the coordinator a day ago", "aaaa", &[(COORDINATOR, mine, -day)], true),
        ("the coordinator before that", "aaaa", &[(COORDINATOR, mine, -day - 1)], false),
        ("the coordinator in two days", "aaaa", &[(COORDINATOR, mine, 2 * day)], false),
    ];
    for (name, zones, said, confirmed) in cases {
        assert_eq!(judged(&others(zones), said).confirmed, confirmed, "{name}");
    }
}

#[test]
fn r8_how_far_ahead_this_clock_is() {
    let all = others("aabb");
    let clock = |off: &[i64]| {
        let said: Vec<_> = off.iter().enumerate().map(|(place, off)| (place, "x", *off)).collect();
        judged(&all, &said).clock_ahead_s
    };
    assert_eq!(clock(&[0, 0]), None, "too few");
    assert_eq!(clock(&[-5, -7, -6]), Some(6));
    assert_eq!(clock(&[5, 7, i64::MAX]), Some(-7), "one that is far off");
    assert_eq!(clock(&[10, 20, 30, 40]), Some(-25));
    let stranger = judged(&all, &[(0, "x", 0), (1, "x", 0), (50, "x", 0)]);
    assert_eq!(stranger.clock_ahead_s, None, "a stranger does not count");
    let coordinator = judged(&all, &[(0, "x", 9), (1, "x", 9), (COORDINATOR, "x", 9)]);
    assert_eq!(coordinator.clock_ahead_s, Some(-9));
}

/// Nothing new is said for an hour, then this host's own clock jumps.
#[test]
fn r8_a_record_grows_old_by_the_clock_that_never_steps() {
    let said: Vec<_> = (0..3).map(|place| (host_id(place), record("mine", 5_000))).collect();
    let live = || said.iter().map(|(host, text)| (host, text));
    let mut records = Records::default();
    let ahead = |records: &Records, now| records.judge(now, heads("mine"), &others("aaa"));
    records.observe(now(5_002), live());
    assert_eq!(ahead(&records, now(5_002)).clock_ahead_s, Some(2));
    let later = |unix| Now { boot_ms: 1_000_000 + 3_600_000, unix: UnixTime(unix) };
    records.observe(later(8_602), live());
    assert_eq!(ahead(&records, later(8_602)).clock_ahead_s, Some(2), "as when it came");
    assert_eq!(ahead(&records, later(9_602)).clock_ahead_s, Some(1_002), "it has jumped");
    // Said long ago is not confirmed now.
    let day = |s| Now { boot_ms: 1_000_000 + 1_000 * s, unix: UnixTime(5_000 + s) };
    assert!(ahead(&records, day(FRESH_S_MAX)).confirmed);
    let days = day(FRESH_S_MAX + 1);
    assert!(!ahead(&records, days).confirmed);
    records.observe(days, [].into_iter());
    assert_eq!(ahead(&records, days), Peers::default(), "who is gone says nothing");
}

proptest! {
    /// Fewer than half that lie about the time do not get the median out of what the others say.
    #[test]
    fn r8_liars_do_not_move_the_median(
        honest in prop::collection::vec(-60_i64..=60, 2..20),
        lies in prop::collection::vec(any::<i64>(), 0..19),
    ) {
        let lies = &lies[..lies.len().min(honest.len() - 1)];
        let off: Vec<i64> = honest.iter().chain(lies).copied().collect();
        let said: Vec<_> = off.iter().enumerate().map(|(at, off)| (at, "x", *off)).collect();
        let ahead = judged(&others(&"a".repeat(off.len())), &said).clock_ahead_s;
        prop_assert_eq!(ahead.is_some(), off.len() >= CLOCKS_MIN);
        let bounds = -honest.iter().max().unwrap()..=-honest.iter().min().unwrap();
        prop_assert!(ahead.is_none_or(|ahead| bounds.contains(&ahead)), "{ahead:?} of {off:?}");
    }

    /// Where there are four hosts or more, no others make up for what three did not say, and none
    /// take it away.
    #[test]
    fn r7_only_hosts_that_show_the_same_count(
        zones in prop::collection::vec(prop::sample::select(vec!['a', 'b', 'c']), 3..30),
        same in prop::collection::vec(any::<bool>(), 30),
    ) {
        let all = others(&zones.iter().collect::<String>());
        let show = |place: usize| (place, if same[place] { "mine" } else { "other" }, 0);
        let everybody: Vec<_> = (0..zones.len()).map(show).collect();
        let agreeing: Vec<_> = everybody.iter().copied().filter(|said| said.1 == "mine").collect();
        let confirmed = judged(&all, &everybody).confirmed;
        prop_assert_eq!(confirmed, judged(&all, &agreeing).confirmed);
        let shown: BTreeSet<_> = agreeing.iter().map(|said| zones[said.0]).collect();
        let there: BTreeSet<_> = zones.iter().collect();
        let enough = agreeing.len() >= CONFIRMING_MIN && shown.len() >= there.len().min(2);
        prop_assert_eq!(confirmed, enough);
    }
}
