//! Who is a twin, by what is signed and when.

use std::collections::BTreeMap;

use super::super::twins::{SILENT_AFTER, Twins};
use super::*;

fn says(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn elsewhere(generation: u64) -> Incarnation {
    Incarnation { generation, addr: addr(9), ..life("me") }
}

#[test]
fn r9_heartbeats_make_no_twin_of_what_was_said_before() {
    let (mut twins, alive) = (Twins::default(), BTreeSet::from([addr(1), addr(9)]));
    let (older, start) = (elsewhere(BORN - 5), Instant::now());
    let at = |s| start + Duration::from_secs(s);
    twins.hear(&older, false, &says(&[("h", "one")]), at(0));
    twins.hear(&older, false, &says(&[("h", "one"), ("s/0", "x")]), at(1));
    assert_eq!(twins.home(&alive, at(1)), None, "it comes in pieces");
    twins.hear(&older, false, &says(&[("h", "two"), ("s/0", "x")]), at(2));
    assert_eq!(twins.home(&alive, at(2)), Some(addr(9)), "it goes on speaking");
    assert_eq!(twins.home(&BTreeSet::from([addr(1)]), at(2)), None, "and is gone");
    // Whoever has its last words can make heartbeats for it.
    twins.hear(&older, false, &says(&[("h", "two"), ("s/0", "x")]), at(60));
    let silent = at(2) + SILENT_AFTER;
    assert_eq!(twins.home(&alive, silent - Duration::from_secs(1)), Some(addr(9)));
    assert_eq!(twins.home(&alive, silent), None);
}

#[test]
fn r9_a_younger_life_elsewhere_is_a_twin_at_once() {
    let (mut twins, alive) = (Twins::default(), BTreeSet::from([addr(9)]));
    let (younger, now) = (elsewhere(BORN + 5), Instant::now());
    twins.hear(&younger, true, &says(&[("h", "one")]), now);
    assert_eq!(twins.home(&alive, now), Some(addr(9)));
    twins.retain(&BTreeSet::from([younger]));
    assert_eq!(twins.home(&alive, now), Some(addr(9)));
    twins.retain(&BTreeSet::new());
    assert_eq!(twins.home(&alive, now), None, "gossip has forgotten it");
}
