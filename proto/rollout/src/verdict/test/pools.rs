//! R24: who is pooled with whom.

use proto::record::{tally_key, to_text};

use super::*;
use crate::testing::{host_id, release, rollout, wave};

/// Two canaries, two hosts more, two that come last, and one of another fleet with the same releases.
fn plan() -> proto::statement::Rollout {
    let mut plan = rollout(&[wave(2, 0, 0, 0), wave(4, 0, 0, 0), wave(6, 0, 0, 0)]);
    plan.limits = Some(Limits { errors_ppm: vec![10_000, 10_000, 0], ..LIMITS });
    plan
}

/// What the hosts with these ranks say: the release, errors, requests.
fn told(said: &[(usize, &str, u64, u64)]) -> Tallies {
    let record = |(rank, name, errors, requests): &(usize, &str, u64, u64)| {
        (host_id(*rank), tally(*errors, *requests).to_record(release(name)))
    };
    said.iter().map(record).collect()
}

#[test]
fn what_members_say_is_read_off_their_values() {
    let record = tally(1, 9).to_record(release("a"));
    let values = [(tally_key(3), to_text(&record)), (tally_key(4), "{".to_owned())].into();
    let host = host_id(0);
    let said = Tallies::read([(&host, &values)].into_iter());
    assert_eq!(said.of(&host, release("a")), Some(tally(1, 9)));
    assert_eq!((said.of(&host, release("b")), said.of(&host_id(1), release("a"))), (None, None));
}

fn numbers(verdict: Option<Verdict>) -> Option<(Counted, Option<Counted>)> {
    let found = verdict.and_then(Verdict::comparison)?;
    Some((found.new, found.control))
}

#[test]
fn r24_hosts_of_earlier_waves_on_the_new_release_against_all_on_the_old_one() {
    let said = told(&[
        (0, "b", 1, 1_000),
        (1, "b", 3, 1_000),
        (2, "b", 7, 1_000),
        (3, "a", 2, 1_000),
        (4, "a", 0, 500),
        (5, "c", 900, 1_000),
        (9, "a", 900, 1_000),
        (8, "b", 900, 1_000),
    ]);
    let counted = |bad, of| Counted { bad, of };
    let control = Some(counted(2, 1_500));
    assert_eq!(numbers(pooled(&plan(), 0, &said)), Some((counted(4, 2_000), control)));
    assert_eq!(numbers(pooled(&plan(), 1, &said)), Some((counted(11, 3_000), control)));
}

/// It has begun its own step, and what it counted before shows nothing of what happens now; one that
/// counts and is idle is asked all the same.
#[test]
fn r24_who_has_stopped_counting_is_no_control() {
    let idle = Tally { over_ms: 30_000, ..Tally::default() };
    let said = [(3, tally(2, 1_000)), (4, Tally::default()), (5, idle.clone())];
    let said: Tallies =
        said.iter().map(|(rank, tally)| (host_id(*rank), tally.to_record(release("a")))).collect();
    assert_eq!(said.control(&plan()), [tally(2, 1_000), idle]);
}

#[test]
fn r24_pooled_verdicts_by_what_is_told() {
    let first = proto::statement::Rollout { from: None, ..plan() };
    let back =
        proto::statement::Rollout { direction: proto::statement::Direction::Rollback, ..plan() };
    let uncounted = proto::statement::Rollout { limits: None, ..plan() };
    let old = [(2, "a", 2, 1_000), (3, "a", 2, 1_000), (4, "a", 2, 1_000), (5, "a", 2, 1_000)];
    let with = |new: &[(usize, &'static str, u64, u64)]| told(&[new, &old[..]].concat());
    let bad = [(0, "b", 30, 1_000), (1, "b", 30, 1_000)];
    let asleep: Vec<_> = old.iter().map(|(rank, name, ..)| (*rank, *name, 0, 10)).collect();
    let out: Vec<_> = old.iter().map(|(rank, name, ..)| (*rank, *name, 300, 1_000)).collect();
    let rows = [
        ("well", plan(), with(&[(0, "b", 2, 1_000), (1, "b", 2, 1_000)]), "pass"),
        ("worse by 3 %, which no host is sure of", plan(), with(&bad), "fail"),
        ("nobody says anything", plan(), told(&[]), "quiet"),
        ("the service sleeps", plan(), told(&[&[(0, "b", 0, 9)], &asleep[..]].concat()), "quiet"),
        ("no traffic on the new one", plan(), with(&[(0, "b", 0, 0), (1, "b", 0, 0)]), "starved"),
        ("the new one says nothing", plan(), with(&[]), "starved"),
        (
            "two have less than one should",
            plan(),
            with(&[(0, "b", 0, 49), (1, "b", 0, 50)]),
            "starved",
        ),
        ("an outage", plan(), told(&[&[(0, "b", 500, 1_000)], &out[..]].concat()), "shared"),
        ("a first deployment, well", first.clone(), told(&[(0, "b", 1, 1_000)]), "pass"),
        ("a first deployment, badly", first.clone(), told(&bad), "fail"),
        ("a first deployment, asleep", first, told(&[(0, "b", 1, 9)]), "quiet"),
        ("a rollback", back, with(&bad), "none"),
        ("no metrics", uncounted, with(&bad), "none"),
    ];
    for (name, plan, said, expected) in rows {
        let verdict = pooled(&plan, 0, &said);
        assert_eq!(verdict.map_or("none", word), expected, "{name}: {verdict:?}");
    }
}

/// What each of several hosts could not tell of itself, all together can.
#[test]
fn r24_the_pool_sees_what_no_host_sees_alone() {
    let old: Vec<_> = (2..6).map(|rank| (rank, "a", 4, 400)).collect();
    let new = [(0, "b", 14, 400), (1, "b", 14, 400)];
    let said = told(&[&new[..], &old[..]].concat());
    let plan = plan();
    let control = said.control(&plan);
    let (limits, ppm) = (plan.limits.as_ref().unwrap(), 5_000);
    let alone = Streak::default().look(tally(14, 400), &control, limits, ppm);
    assert_eq!(word(alone), "pass");
    let stricter = Limits { errors_ppm: vec![ppm; 3], ..LIMITS };
    let plan = proto::statement::Rollout { limits: Some(stricter), ..plan };
    assert_eq!(pooled(&plan, 0, &said).map(word), Some("fail"));
}
