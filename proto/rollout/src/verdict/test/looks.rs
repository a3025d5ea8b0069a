//! R24, R18: look after look.

use super::*;

const COMPARISON: Comparison = Comparison {
    signal: Signal::Errors,
    new: Counted { bad: 50, of: 1_000 },
    control: None,
    above_ppm: 10_000,
    z_milli: 5_000,
};
const PASS: Verdict = Verdict::Pass(COMPARISON);
const FAIL: Verdict = Verdict::Fail(COMPARISON);
const SHARED: Verdict = Verdict::Shared { comparison: COMPARISON, hosts: 3, of: 4 };
const QUIET: Verdict = Verdict::Quiet { new: 3, needed: 100 };
const FEW: Verdict = Verdict::Starved { new: 3, needed: 100, worse: false };
const NONE: Verdict = Verdict::Starved { new: 0, needed: 100, worse: true };

fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Good(_) => "good",
        Conclusion::Doubt(_) => "doubt",
        Conclusion::Worse(_) => "worse",
    }
}

/// What verdicts, a second apart, come to on a host.
fn after(verdicts: &[Verdict], fails_min: usize) -> &'static str {
    let mut looks = Looks::new(fails_min);
    for (second, verdict) in (0..).zip(verdicts) {
        looks.take(second * 1_000, *verdict, true);
    }
    word(looks.conclusion())
}

#[test]
fn r24_a_release_is_worse_once_it_was_found_so_several_times_in_a_row() {
    let rows: [(&[Verdict], &str); 9] = [
        (&[], "doubt"),
        (&[PASS], "good"),
        (&[QUIET], "good"),
        (&[FAIL, FAIL], "doubt"),
        (&[FAIL, FAIL, FAIL], "worse"),
        (&[FAIL, FAIL, PASS, FAIL, FAIL], "doubt"),
        (&[FAIL, FAIL, SHARED, FAIL, FAIL], "doubt"),
        // Nothing compared is no comparison passed.
        (&[FAIL, FAIL, QUIET, FEW, FAIL], "worse"),
        (&[FAIL, FAIL, FAIL, QUIET], "worse"),
    ];
    for (verdicts, expected) in rows {
        assert_eq!(after(verdicts, FAILS_MIN), expected, "{verdicts:?}");
    }
    assert_eq!(after(&[FAIL], 1), "worse", "the pool holds at once");
    assert_eq!(after(&[FAIL, QUIET, QUIET], 1), "worse", "a service that sleeps is no better");
}

/// Who looks often enough sees by chance what he waits for.
#[test]
fn r24_what_was_worse_is_good_again_after_five_minutes_of_passing() {
    let mut looks = Looks::new(1);
    let mut at = |seconds: u64, verdict| {
        looks.take(seconds * 1_000, verdict, true);
        word(looks.conclusion())
    };
    assert_eq!(at(0, PASS), "good");
    assert_eq!(at(1, FAIL), "worse");
    for (seconds, verdict) in [(2, PASS), (301, PASS), (302, SHARED), (303, PASS), (602, PASS)] {
        assert_eq!(at(seconds, verdict), "worse", "{seconds} s");
    }
    assert_eq!(at(603, PASS), "good");
}

#[test]
fn r18_doubt_ends_after_five_minutes() {
    for (verdict, expected) in [(SHARED, "worse"), (FEW, "good"), (NONE, "worse")] {
        let mut looks = Looks::new(FAILS_MIN);
        let mut at = |seconds: u64, verdict, due| {
            looks.take(seconds * 1_000, verdict, due);
            word(looks.conclusion())
        };
        // While something else is waited for, it may take its time.
        assert_eq!(at(0, verdict, false), "doubt");
        assert_eq!(at(600, verdict, true), "doubt");
        assert_eq!(at(899, verdict, true), "doubt");
        // It ended between: another one is waited for anew.
        assert_eq!(at(899, PASS, true), "good");
        assert_eq!(at(901, verdict, true), "doubt");
        assert_eq!(at(1_200, verdict, true), "doubt");
        assert_eq!(at(1_201, verdict, true), expected, "{verdict}");
    }
}

/// So many a second, of which all fail from second 0 on, as counted in the window that ends at
/// `second` and began at `since`.
fn outage(second: i64, since: i64) -> Tally {
    let since = since.max(second - 30);
    let requests = 100 * (second - since).unsigned_abs();
    let errors = 100 * (second - since.max(0)).max(0).unsigned_abs();
    let over_ms = u32::try_from((second - since) * 1_000).unwrap();
    Tally { requests, errors, over_ms, ..Tally::default() }
}

/// An outage that old and new share is heard of seconds after it began, and shows less in the long
/// windows of the control than in one that has just begun: it is blamed on nobody all the same.
#[test]
fn r24_a_shared_outage_is_not_blamed_on_a_window_that_has_just_begun() {
    let limits = Limits { requests_min: 100, ..LIMITS };
    for begins in [-30, -10, -1, 0, 1, 5, 20] {
        for late in [1, 2] {
            let (mut streak, mut looks) = (Streak::default(), Looks::new(FAILS_MIN));
            for second in begins.max(0) + 1..30 {
                let control = vec![outage(second - late, -60); 5];
                let verdict = streak.look(outage(second, begins), &control, &limits, 10_000);
                looks.take(second.unsigned_abs() * 1_000, verdict, false);
                let came = looks.conclusion();
                assert_ne!(word(came), "worse", "window {begins}, told {late} s late, at {second}");
            }
        }
    }
}

/// It shows in few errors at first, on some hosts in fewer than on others by chance; nor is it taken for
/// one where the others have surely fewer.
#[test]
fn r24_few_errors_are_few_by_chance_in_a_window_that_has_just_begun() {
    let over = |over_ms, errors, requests| Tally { over_ms, ..tally(errors, requests) };
    let new = over(3_000, 13, 150);
    let rows = [([5, 6, 8, 9], "shared"), ([2, 2, 3, 2], "fail"), ([0, 0, 0, 0], "fail")];
    for (control, expected) in rows {
        let control = control.map(|errors| over(30_000, errors, 1_500));
        let verdict = look(&new, &control, &LIMITS, 10_000);
        assert_eq!(super::word(verdict), expected, "{control:?}");
    }
}

/// The same with fewer hosts of the control than can show that an outage is shared.
#[test]
fn r24_a_shared_outage_of_a_small_fleet_is_not_blamed_on_who_heard_of_it_late() {
    for (control, late) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let (mut streak, mut looks) = (Streak::default(), Looks::new(FAILS_MIN));
        for second in 1..40 {
            let control = vec![outage(second - late, -60); control];
            let verdict = streak.look(outage(second, -60), &control, &LIMITS, 10_000);
            looks.take(second.unsigned_abs() * 1_000, verdict, false);
            let came = looks.conclusion();
            assert_ne!(word(came), "worse", "told {late} s late, at {second}: {verdict}");
        }
    }
}

/// Hosts leave the control by their own turns: what was shared by enough of it stays so with the few
/// that are left, for as long as half of those show it, and for five minutes at most (R18). It begins
/// with enough of them, and ends with a look that passes.
#[test]
fn r24_what_was_shared_is_not_blamed_once_the_control_has_left() {
    let (worse, ill, well) = (tally(600, 1_000), || tally(400, 1_000), || tally(0, 1_000));
    let two = || vec![ill(), well()];
    let crowd = || vec![ill(), ill(), ill(), well()];
    let same = || vec![worse.clone(); 4];
    let half = || vec![ill(), ill(), well(), well()];
    let rows: [(&str, Vec<Vec<Tally>>, &str); 7] = [
        ("two of them left", vec![crowd(), two(), two(), two()], "doubt"),
        ("nobody left", vec![crowd(), vec![], vec![], vec![]], "doubt"),
        ("two that are well", vec![crowd(), vec![well(); 2]], "worse"),
        ("four of which two show it", vec![crowd(), half()], "worse"),
        ("two from the beginning", vec![two()], "worse"),
        ("nobody from the beginning", vec![vec![]], "worse"),
        ("over, and two of them left", vec![crowd(), same(), two()], "worse"),
    ];
    for (name, controls, expected) in rows {
        // One look is enough.
        let (mut streak, mut looks) = (Streak::default(), Looks::new(1));
        let mut last = None;
        for (second, control) in controls.iter().enumerate() {
            let verdict = streak.look(worse.clone(), control, &LIMITS, 10_000);
            looks.take(second as u64 * 1_000, verdict, true);
            last = Some(verdict);
        }
        assert_eq!(word(looks.conclusion()), expected, "{name}: {last:?}");
        looks.take(DOUBT_MS_MAX + 1_000, last.unwrap(), true);
        assert_eq!(word(looks.conclusion()), "worse", "{name}: no doubt lasts");
    }
}

/// What the others count has risen since the look before, and so that one proves nothing any more; but
/// neither is a release good that is worse at this very look.
#[test]
fn r24_a_release_that_is_worse_now_is_not_good_for_having_been_better() {
    let (mut streak, mut looks) = (Streak::default(), Looks::new(FAILS_MIN));
    let tally = |errors| Tally { requests: 1_000, errors, over_ms: 10_000, ..Tally::default() };
    let rows = [(0, 6, "good"), (40, 6, "doubt"), (200, 20, "doubt"), (200, 20, "doubt")];
    for (second, (errors, control, expected)) in rows.into_iter().enumerate() {
        let control = vec![tally(control); 5];
        let verdict = streak.look(tally(errors), &control, &LIMITS, 10_000);
        looks.take(second as u64 * 1_000, verdict, false);
        assert_eq!(word(looks.conclusion()), expected, "look {second}: {verdict}");
        assert_eq!(matches!(verdict, Verdict::Fresh(_)), second == 2, "look {second}: {verdict}");
    }
}

/// The excuse is none for a release that fails alone, whatever the window: it goes at the third look;
/// a little later where one of the others has an outage, too.
#[test]
fn r24_a_release_that_fails_alone_goes_at_the_third_look() {
    for (begins, outages, goes_at) in
        [(-30, 0, 3), (-1, 0, 3), (0, 0, 3), (-30, 1, 5), (-1, 1, 3), (0, 1, 3)]
    {
        let (mut streak, mut looks) = (Streak::default(), Looks::new(FAILS_MIN));
        let worse_at = (1..=10).find(|second| {
            // All have an error now and then.
            let mut control = vec![Tally { errors: 6, ..outage(second - 60, -90) }; 5];
            control[..outages].fill(outage(*second, -60));
            let verdict = streak.look(outage(*second, begins), &control, &LIMITS, 10_000);
            looks.take(second.unsigned_abs() * 1_000, verdict, false);
            word(looks.conclusion()) == "worse"
        });
        assert_eq!(worse_at, Some(goes_at), "window {begins}, {outages} of the others");
    }
}
