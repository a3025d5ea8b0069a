//! Rewritten records, held against what hosts were told.

use proptest::prelude::*;
use proto::audit::{Act, News, RiftKind, Told};

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Entries of which those from `from` on are another branch's, each hashed so that the chain stands.
fn record(first: &'static str, length: u64, from: u64, branch: &str) -> Vec<Entry> {
    let mut head = Head::EMPTY;
    let entry = |number: u64| {
        let branch = if number < from { "" } else { branch };
        let act = Act {
            actor: format!("ada{branch}"),
            action: if number == 1 { first } else { "publish" },
            subject: format!("web {number}"),
            detail: serde_json::json!({}),
        };
        let entry = Entry::after(head, UnixTime(NOW.0 + number), act);
        head = Head { length: entry.seq, hash: entry.hash };
        entry
    };
    (1..=length).map(entry).collect()
}

fn memory_of(entries: &[Entry], lengths: impl IntoIterator<Item = u64>) -> Memory {
    let mut memory = Memory::default();
    hear(&mut memory, entries, lengths);
    memory
}

fn hear(memory: &mut Memory, entries: &[Entry], lengths: impl IntoIterator<Item = u64>) {
    let origin = Origin::of(&entries[0]);
    for length in lengths {
        let entry = &entries[usize::try_from(length).unwrap() - 1];
        let head = Head { length, hash: entry.hash };
        memory.see(&Told { origin, head }, 0, entry.at);
    }
}

fn witness(name: &str, memory: Memory) -> Witness {
    Witness { name: name.to_owned(), is_host: true, memory: Ok(memory) }
}

/// The coordinator gives these entries, and names this head.
fn verdict_of(entries: &[Entry], named: Head, witnesses: &[Witness]) -> Verdict {
    judge(&walked(entries, named, witnesses), witnesses, None)
}

fn walked(entries: &[Entry], named: Head, witnesses: &[Witness]) -> Walk {
    let mut walk = Walk::new(witnesses);
    if entries.iter().all(|entry| walk.take(entry)) {
        walk.end(named);
    }
    walk
}

fn head_of(entries: &[Entry]) -> Head {
    entries.last().map_or(Head::EMPTY, |last| Head { length: last.seq, hash: last.hash })
}

fn judged(entries: &[Entry], witnesses: &[Witness]) -> Verdict {
    verdict_of(entries, head_of(entries), witnesses)
}

#[test]
fn r30_a_record_that_only_grew_is_sound() {
    let entries = record("token-create", 9, 99, "");
    let silent =
        Witness { name: "n4".to_owned(), is_host: true, memory: Err("does not answer".to_owned()) };
    let witnesses = [
        witness("n1", memory_of(&entries, [1, 4])),
        witness("n2", memory_of(&entries, [7])),
        witness("n3", Memory::default()),
        silent,
    ];
    let verdict = judged(&entries, &witnesses);
    assert!(verdict.sound, "{verdict:#?}");
    assert_eq!((verdict.agree.join(" "), verdict.agreed), ("n1 n2".to_owned(), 7));
    let without: Vec<_> = verdict.without.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(without, ["n3", "n4"]);
}

#[test]
fn r30_what_was_hashed_anew_behind_an_edit_is_placed_by_what_hosts_remember() {
    let old = record("token-create", 20, 99, "");
    let new = record("token-create", 25, 8, " and eve");
    let witnesses =
        [witness("n1", memory_of(&old, [2, 5])), witness("n2", memory_of(&old, [5, 10, 20]))];
    let verdict = judged(&new, &witnesses);
    let expected = Fault::Rewritten {
        from: 6,
        to: 10,
        here: new[9].hash,
        was: old[9].hash,
        seen: old[9].at,
        by: vec!["n2".to_owned()],
    };
    assert_eq!(verdict.faults, [expected]);
    assert_eq!(verdict.agree, ["n1"], "it has heard of nothing that was changed");
}

#[test]
fn r30_a_cut_is_found_by_the_coordinators_own_head_and_by_hosts() {
    let old = record("token-create", 9, 99, "");
    let cut = &old[..6];
    let verdict = verdict_of(cut, head_of(&old), &[]);
    let [Fault::Chain { entry: 7, .. }, Fault::Unvouched { hosts: 0 }] = &verdict.faults[..] else {
        panic!("{verdict:#?}")
    };
    let verdict = judged(cut, &[witness("n1", memory_of(&old, [4, 8]))]);
    let expected = Fault::Cut { entry: 7, was: 8, seen: old[7].at, by: vec!["n1".to_owned()] };
    assert_eq!(verdict.faults, [expected, Fault::Unvouched { hosts: 1 }]);
}

#[test]
fn r30_another_record_is_sound_only_as_a_recovery_that_somebody_knows_of() {
    let old = record("token-create", 9, 99, "");
    let ids = |new: &[Entry]| format!("{:#}", new[0].hash);
    for (first, named, fault) in [
        ("recover", Some(true), None),
        ("recover", None, Some("recovered")),
        ("recover", Some(false), Some("not-named")),
        ("token-create", None, Some("replaced")),
        ("token-create", Some(true), Some("replaced")),
    ] {
        let new = record(first, 3, 1, " anew");
        let named = named.map(|right| match right {
            true => ids(&new)[..12].to_owned(),
            false => ids(&old)[..12].to_owned(),
        });
        // One that remembers both, and one that has joined since.
        let mut memory = memory_of(&old, [9]);
        hear(&mut memory, &new, [2]);
        let witnesses = [witness("n1", memory), witness("n2", memory_of(&new, [3]))];
        let walk = walked(&new, head_of(&new), &witnesses);
        let verdict = judge(&walk, &witnesses, named.as_deref());
        assert_eq!(verdict.sound, fault.is_none(), "{verdict:#?}");
        let [before] = &verdict.before[..] else { panic!("{verdict:#?}") };
        assert_eq!((before.entries, before.by.join(" ")), (9, "n1".to_owned()));
        let kind = |fault: &Fault| serde_json::to_value(fault).unwrap()["kind"].clone();
        let kinds: Vec<_> = verdict.faults.iter().map(kind).collect();
        assert_eq!(kinds, fault.into_iter().collect::<Vec<_>>(), "{verdict:#?}");
    }
    let verdict = judged(&[], &[witness("n1", memory_of(&old, [9]))]);
    assert!(!verdict.sound, "an empty one is none: {verdict:#?}");
}

#[test]
fn r30_nobody_vouches_where_no_host_agrees() {
    let entries = record("token-create", 9, 99, "");
    let gossip = || Witness { is_host: false, ..witness("gossip", memory_of(&entries, [9])) };
    let silent =
        Witness { memory: Err("is silent".to_owned()), ..witness("n1", Memory::default()) };
    let none = [gossip()];
    let some = [gossip(), silent, witness("n2", Memory::default())];
    for (witnesses, hosts) in [(&none[..], 0), (&some, 2)] {
        let verdict = judged(&entries, witnesses);
        assert_eq!(verdict.faults, [Fault::Unvouched { hosts }]);
        assert!(!verdict.sound && verdict.agree.is_empty());
    }
    let one = [gossip(), witness("n1", memory_of(&entries, [4])), witness("n2", Memory::default())];
    let verdict = judged(&entries, &one);
    assert_eq!((verdict.sound, verdict.agree.len(), verdict.hosts), (true, 1, 2));
    // What it has told the fleet is not what it gives here.
    let other = record("token-create", 9, 5, " and eve");
    let two =
        [Witness { is_host: false, ..witness("gossip", memory_of(&other, [9])) }, one[1].clone()];
    let verdict = judged(&entries, &two);
    let [Fault::Rewritten { .. }] = &verdict.faults[..] else { panic!("{verdict:#?}") };
}

#[test]
fn r30_what_a_host_has_noticed_is_told() {
    let entries = record("token-create", 9, 99, "");
    let mut memory = memory_of(&entries, [4]);
    let other = record("token-create", 4, 2, " and eve");
    let told = Told { origin: Origin::of(&entries[0]), head: head_of(&other) };
    let Some(News::Rift(rift)) = memory.see(&told, 0, NOW) else { panic!("{memory:?}") };
    assert_eq!(rift.kind, RiftKind::Fork);
    let verdict = judged(&entries, &[witness("n1", memory)]);
    let [Fault::Noticed { by, .. }] = &verdict.faults[..] else { panic!("{verdict:#?}") };
    assert_eq!(by, "n1");
}

proptest! {
    /// Whatever is edited with all behind it hashed anew, and whoever has heard what: if anybody has heard
    /// of a head from there on, it is found, and the place is between what was said.
    #[test]
    fn r30_a_fork_is_found_with_its_place(
        edited in 1..40_u64,
        grown in 0..5_u64,
        heard in prop::collection::vec(prop::collection::btree_set(1..40_u64, 0..6), 1..4),
    ) {
        // The first entry is what the record is known by: another one is another record.
        let old = record("token-create", 40, 99, "");
        let new = record("token-create", 40 + grown, edited, " and eve");
        let witnesses: Vec<_> = heard
            .iter()
            .enumerate()
            .map(|(host, lengths)| {
                let memory = match lengths.is_empty() {
                    true => Memory::default(),
                    false => memory_of(&old, lengths.iter().copied()),
                };
                witness(&format!("n{host}"), memory)
            })
            .collect();
        let verdict = judged(&new, &witnesses);
        let known = heard.iter().flatten().any(|length| *length >= edited);
        let any = heard.iter().any(|lengths| !lengths.is_empty());
        let found = |fault: &&Fault| !matches!(fault, Fault::Unvouched { .. });
        let faults: Vec<_> = verdict.faults.iter().filter(found).collect();
        prop_assert_eq!(!faults.is_empty(), known || edited == 1 && any, "{:#?}", verdict);
        prop_assert!(!verdict.sound || !verdict.agree.is_empty());
        for fault in faults {
            match fault {
                Fault::Rewritten { from, to, .. } => {
                    prop_assert!(*from <= edited && edited <= *to, "{:?} of {}", fault, edited);
                }
                Fault::Replaced { .. } => prop_assert_eq!(edited, 1),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn r30_a_cut_is_found_with_its_place(
        left in 0..40_usize,
        heard in prop::collection::btree_set(1..40_u64, 1..6),
    ) {
        let old = record("token-create", 40, 99, "");
        let verdict = judged(&old[..left], &[witness("n1", memory_of(&old, heard.clone()))]);
        let longest = *heard.last().unwrap();
        let left = left as u64;
        prop_assert_eq!(verdict.sound, longest <= left);
        let place = verdict.faults.iter().find_map(|fault| match fault {
            Fault::Cut { entry, was, .. } => Some((*entry, *was)),
            _ => None,
        });
        // Of nothing at all nobody knows which record it was.
        prop_assert_eq!(place, (left > 0 && longest > left).then_some((left + 1, longest)));
    }
}
