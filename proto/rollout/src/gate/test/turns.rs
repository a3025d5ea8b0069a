//! R15 and its kin: whose turn it is in an open wave, in the lane, and on the way back.

use super::*;

/// A rolling rollout of twelve hosts, of which two may be silent.
fn rolling(in_flight_max: u32, letters: &str) -> Case {
    let mut case = case(&[wave(12, 10, 3, 2)], letters);
    case.rollout.in_flight_max = Some(in_flight_max);
    case
}

/// In a rolling rollout so many are between their start and their end, and no more.
#[test]
fn r15_rolling_counts_hosts_that_have_not_ended() {
    let cases = [
        ("the first of all", 1, 0, "", "none"),
        ("a batch starts at once", 3, 2, "ss", "none"),
        (
            "the batch is full",
            3,
            3,
            "sss",
            "3 hosts before it have not come to their end, at most 3",
        ),
        ("one bakes: it has not ended", 1, 1, "b", "1 hosts before it have not come to"),
        ("it committed", 1, 1, "c", "none"),
        ("it failed", 1, 1, "f", "none"),
        ("it could not go back", 1, 1, "F", "none"),
        ("it went back with the fleet", 1, 1, "r", "1 hosts before it have not come to"),
        ("it was never heard", 1, 1, "_", "1 hosts before it have not come to"),
        ("it was skipped", 1, 1, "(a)", "none"),
        ("two slots, one is free", 2, 4, "cccb", "none"),
        ("two may be silent, also after they ended", 2, 5, "CCccc", "none"),
        ("three may not", 2, 5, "CCCcc", "3 of 5 hosts before it are not heard, at most 2 may"),
        (
            "what may be old is no sign of life",
            2,
            5,
            "uuucc",
            "3 of 5 hosts before it have not said again where they stand, at most 2 may be missing",
        ),
        ("a failure is for ever, silent or not", 2, 5, "CCFcc", "none"),
        ("who was skipped need not be heard", 2, 5, "CC(C)cc", "none"),
        ("a silent one that has not ended holds its slot", 1, 3, "c_c", "1 hosts before it have"),
    ];
    for (name, in_flight_max, rank, letters, text) in cases {
        let hold = rolling(in_flight_max, letters).with(|facts| turn(facts, rank));
        let got = hold.map_or("none".to_owned(), |hold| hold.to_string());
        assert!(got.contains(text), "{name}: {got}");
    }
    let mut promoted = rolling(2, "CCCcc");
    promoted.order = Some(Order { sequence: 1, action: Action::Promote, wave: Some(0) });
    assert_eq!(promoted.with(|facts| turn(facts, 5)), None, "an operator goes over silence");
    promoted.seen = "bb".chars().map(sight).collect();
    assert!(promoted.with(|facts| turn(facts, 2)).is_some(), "not over the bound");
}

/// Catching up with a complete rollout: by rank, few at once, and nobody waits for the silent.
#[test]
fn r7_the_lane_goes_in_the_order_of_the_cohort() {
    let cases = [
        ("nobody before it", 3, 2, "cc", true),
        ("one before it has not started", 3, 2, "cs", false),
        ("one before it bakes", 3, 2, "cb", false),
        ("one before it is silent", 3, 2, "cS", true),
        ("one that may be there", 3, 2, "c-", false),
        ("one that is gone", 3, 2, "c_", true),
        ("who failed rests", 3, 2, "Ff", true),
        ("who failed too late, too", 3, 2, "cl", true),
        ("hosts behind do not count", 4, 1, "cbb", true),
        ("two of a hundred and forty-nine", 149, 3, "css", false),
        ("one of them", 149, 3, "ccs", true),
        ("a skipped one that is heard catches up, too", 3, 2, "c(s)", false),
    ];
    for (name, hosts, rank, letters, free) in cases {
        let case = Case { complete: true, ..case(&[wave(hosts, 0, 0, 0)], letters) };
        // Slots are another matter: all may be stopped.
        assert_eq!(case.with(|facts| turn(facts, rank)).is_none(), free, "{name}");
    }
}

/// On the way back it is the other way round: the highest rank first, and silence frees.
#[test]
fn r15_the_way_back_goes_in_reverse() {
    let cases = [
        ("the last of all", 1, "ccc", 2, vec![]),
        ("the one behind runs it", 1, "ccc", 1, vec![2]),
        ("the highest go first", 1, "cccc", 0, vec![3]),
        ("two at once", 2, "cccc", 0, vec![3, 2]),
        ("two at once, the second of them", 2, "cccc", 2, vec![3]),
        ("it is back", 1, "ccr", 1, vec![]),
        ("it failed there and is back", 1, "ccf", 1, vec![]),
        ("it could not go back", 1, "ccF", 1, vec![]),
        ("it has not said that it never started", 1, "ccs", 1, vec![2]),
        ("it is silent", 1, "ccC", 1, vec![]),
        ("it was never heard", 1, "cc_", 1, vec![]),
        ("it may be there", 1, "cc-", 1, vec![2]),
        ("it was skipped, and serves", 1, "cc(b)", 1, vec![2]),
        ("hosts before it do not count", 1, "bbc", 2, vec![]),
    ];
    for (name, max_unavailable, letters, rank, waits_for) in cases {
        let hosts =
            letters.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter));
        let hosts = u32::try_from(hosts.count()).unwrap();
        let mut case = case(&[wave(hosts, 0, 0, 0)], letters);
        case.rollout.max_unavailable = max_unavailable;
        assert_eq!(case.with(|facts| back(facts, rank, &|_| false)), waits_for, "{name}");
    }
    let mut zones = case(&[wave(4, 0, 0, 0)], "cccc");
    zones.rollout.max_unavailable = 1;
    zones.rollout.cohort[3].zone = "y".parse().unwrap();
    assert_eq!(zones.with(|facts| back(facts, 1, &|_| false)), [2], "another zone does not count");
    assert_eq!(zones.with(|facts| back(facts, 0, &|rank| rank == 2)), [1], "waited for too long");
}

/// What an older rollout brought is left in the same order, by those that are pending until then.
#[test]
fn r15_what_an_older_rollout_brought_is_left_in_reverse() {
    let cases = [
        ("the last of all", "ppp", 2, vec![]),
        ("the one behind has yet to leave it", "ppp", 1, vec![2]),
        ("it has left it, and goes on", "pps", 1, vec![]),
        ("it has said nothing yet", "pp-", 1, vec![2]),
        ("it was never heard", "pp_", 1, vec![]),
        ("it was skipped, and serves", "pp(p)", 1, vec![2]),
    ];
    for (name, letters, rank, waits_for) in cases {
        let mut case = case(&[wave(3, 0, 0, 0)], letters);
        case.rollout.max_unavailable = 1;
        assert_eq!(case.with(|facts| leave(facts, rank, &|_| false)), waits_for, "{name}");
    }
}
