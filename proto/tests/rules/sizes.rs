//! What is gossiped fits, with the longest names there are.

use proto::certificate::Claim;
use proto::receipt::{
    Cause, NOTE_BYTES_MAX, RECEIPT_BYTES_MAX, Receipt, ReceiptError, SignedReceipt, State, note,
};
use proto::record::{
    AllowedRecord, BOUND_MS_MAX, BUCKETS_MAX, DriftRecord, FETCH_BANNED_MAX, FETCH_BYTES_MAX,
    FETCH_STILL_S_MAX, FetchRecord, FetchSources, HostRecord, Lie, ProgressRecord, RootRecord,
    SHELF_BYTES_MAX, SHELF_ITEMS_MAX, SLOTS, ScopeRecord, Shelf, ShelfRecord, Stall, StallRecord,
    TALLY_COUNT_MAX, TallyRecord, VALUE_BYTES_MAX, from_text, to_text,
};
use proto::statement::COUNTER_MAX;
use proto::{Digest, HostId, Scope, UnixTime};

use crate::fleet::*;

/// What the network layer adds to a value.
const SIGNATURE_BYTES: usize = 87;

#[test]
fn r11_values_with_their_signature_stay_below_512_bytes() {
    const { assert!(VALUE_BYTES_MAX + SIGNATURE_BYTES < 512) };
}

/// An artifact of as many pieces as a bitmap has bits for, fetched from everywhere, stalled, by liars.
fn longest_progress() -> ProgressRecord {
    const PIECES_MAX: u32 = 64 << 13;
    let max = FETCH_BYTES_MAX;
    let liar = |seed: usize| (HostId::of(&public(u8::try_from(seed).unwrap())), Lie::WrongBytes);
    let fetch = FetchRecord {
        running: true,
        bytes: max,
        bytes_per_s: max,
        peers: u8::MAX,
        from: FetchSources { peers: max, origin: max, here: max, patched: max },
        still_s: FETCH_STILL_S_MAX,
        stall: Some(StallRecord { why: Stall::NoManifest, pieces: PIECES_MAX }),
        banned: (0..FETCH_BANNED_MAX).map(liar).collect(),
    };
    let artifact = Digest::of(b"");
    ProgressRecord { artifact, pieces: PIECES_MAX, of: PIECES_MAX, fetch: Some(fetch) }
}

#[test]
fn r11_the_longest_records_fit() {
    let name = |len| "n".repeat(len);
    let digest = Digest::of(b"");
    let scope = ScopeRecord {
        scope: Scope { service: parsed(&name(32)), env: parsed(&name(32)) },
        epoch: COUNTER_MAX,
        rollout: digest,
        directive: Some(digest),
        halt: Some(digest),
        complete: Some(digest),
    };
    let host = HostRecord {
        coordinator: false,
        version: parsed(&name(63)),
        at: UnixTime(u64::MAX),
        heads: digest,
    };
    let shelf = ShelfRecord { shelf: digest, items: u32::MAX };
    let root = RootRecord { version: u32::MAX, root: digest };
    let progress = longest_progress();
    let tally = TallyRecord {
        release: digest,
        requests: TALLY_COUNT_MAX,
        errors: TALLY_COUNT_MAX,
        latency: vec![TALLY_COUNT_MAX; BUCKETS_MAX],
        bounds_ms: vec![BOUND_MS_MAX; BUCKETS_MAX - 1],
        over_ms: u32::MAX,
    };
    let drift = DriftRecord {
        service: parsed(&name(32)),
        release: digest,
        serves: true,
        found: u32::MAX,
        first: note(&"w".repeat(1_000)),
    };
    let service = |slot| parsed(&format!("{slot}{}", name(31)));
    let allowed = AllowedRecord { services: (0..SLOTS).map(service).collect() };
    assert_eq!(allowed.services.len(), SLOTS);
    for (record, text) in [
        ("allowed", to_text(&allowed)),
        ("drift", to_text(&drift)),
        ("scope", to_text(&scope)),
        ("host", to_text(&host)),
        ("root", to_text(&root)),
        ("shelf", to_text(&shelf)),
        ("progress", to_text(&progress)),
        ("tally", to_text(&tally)),
    ] {
        assert!(text.len() <= VALUE_BYTES_MAX, "{record}: {} bytes: {text}", text.len());
    }
    assert_eq!(from_text(&to_text(&scope)), Some(scope));
    assert_eq!(from_text::<HostRecord>(&" ".repeat(VALUE_BYTES_MAX + 1)), None);
}

#[test]
fn r11_the_longest_shelf_fits_and_a_longer_one_is_not_read() {
    let digest = Digest::of(b"");
    let mut shelf = Shelf {
        statements: Vec::new(),
        certificates: vec![(digest, Claim::Wave(u32::MAX)); SHELF_ITEMS_MAX],
    };
    assert!(shelf.to_bytes().len() <= SHELF_BYTES_MAX, "{} bytes", shelf.to_bytes().len());
    assert_eq!(Shelf::parse(&shelf.to_bytes()).as_ref(), Some(&shelf));
    shelf.statements.push(digest);
    assert_eq!(Shelf::parse(&shelf.to_bytes()), None);
    assert_eq!(Shelf::parse(b"{}"), None);
}

fn longest() -> Receipt {
    Receipt {
        rollout: Digest::of(b""),
        host: HostId::of(&public(HOSTS)),
        sequence: u64::MAX,
        attempt: u32::MAX,
        state: State::RevertFailed,
        cause: Some(Cause::Release),
        note: note(&"w".repeat(1_000)),
    }
}

#[test]
fn r11_the_longest_receipt_fits() {
    let states = [
        State::Pending,
        State::Fetching,
        State::Staged,
        State::Activating,
        State::Baking,
        State::Committed,
        State::Reverted,
        State::RevertFailed,
    ];
    let causes =
        [None, Some(Cause::Release), Some(Cause::Host), Some(Cause::Fleet), Some(Cause::Late)];
    for (state, cause) in states.into_iter().flat_map(|state| causes.map(|cause| (state, cause))) {
        let receipt = Receipt { state, cause, ..longest() };
        let json = serde_json::to_string(&receipt).unwrap();
        assert!(json.len() <= RECEIPT_BYTES_MAX, "{} bytes: {json}", json.len());
        let signed = receipt.sign(&key(HOSTS));
        let text = signed.to_text();
        assert!(text.len() <= VALUE_BYTES_MAX, "{} bytes: {text}", text.len());
        assert_eq!(SignedReceipt::from_text(&text).unwrap(), signed);
        assert_eq!(signed.verify(&public(HOSTS)).unwrap(), receipt);
    }
}

#[test]
fn notes_are_one_plain_line() {
    for (text, expected) in [
        ("healthz answered 500", "healthz answered 500"),
        ("  cut at both ends \n", "cut at both ends"),
        ("two\nlines\tand a \"quote\" \\", "two lines and a 'quote' /"),
        ("\u{1b}[31mred", "?[31mred"),
        ("größer", "gr??er"),
        ("", ""),
    ] {
        assert_eq!(note(text), expected);
    }
    let long = note(&"x".repeat(500));
    assert_eq!(long.len(), NOTE_BYTES_MAX);
    assert_eq!(serde_json::to_string(&long).unwrap().len(), NOTE_BYTES_MAX + 2, "nothing escaped");
}

#[test]
fn r4_a_receipt_counts_for_the_host_whose_key_signed_it() {
    let receipt = longest();
    let good = receipt.sign(&key(HOSTS));
    let id = |seed| HostId::of(&public(seed));
    assert_eq!(good.claimed_host(), Ok(id(HOSTS)));
    assert_eq!(good.verify(&public(STRANGER)), Err(ReceiptError::Signature(id(STRANGER))));

    // As a stolen host would write them, past `sign` and `note`.
    let by_host = |json: &str| {
        let message = proto::dsse::pae(proto::receipt::PAYLOAD_TYPE, json.as_bytes());
        let signature = proto::key::Signature::of(&key(HOSTS), &message);
        let signed = SignedReceipt::from_text(&format!("{signature} {json}")).unwrap();
        signed.verify(&public(HOSTS)).map_or_else(|error| error.to_string(), |_| "counts".into())
    };
    let json = serde_json::to_string(&receipt).unwrap();
    let other = json.replace(id(HOSTS).as_str(), id(HOSTS + 1).as_str());
    check_rows(&[
        ("its own", by_host(&json), "counts"),
        ("of another host", by_host(&other), "not of"),
        ("a terminal's commands", by_host(&json.replacen("wwwwwww", "\\u001b[", 1)), "not plain"),
        (
            "another field",
            by_host(&json.replace("{\"rollout\"", "{\"x\":1,\"rollout\"")),
            "unknown field",
        ),
        (
            "a field twice",
            by_host(&json.replace("\"attempt\":", "\"attempt\":1,\"attempt\":")),
            "duplicate field",
        ),
        ("too long", by_host(&format!("{json}{}", " ".repeat(100))), "at most 320"),
    ]);
}

/// The version before reads what this one says, and the other way round; a later one may say more.
#[test]
fn a_fetch_is_told_so_that_other_versions_can_read_it() {
    let artifact = Digest::of(b"");
    let before = format!("{{\"artifact\":\"{artifact:#}\",\"pieces\":3,\"of\":7}}");
    let held = ProgressRecord { artifact, pieces: 3, of: 7, fetch: None };
    assert_eq!(to_text(&held), before);
    assert_eq!(from_text(&before), Some(held.clone()));
    let begun = ProgressRecord { fetch: Some(FetchRecord::default()), ..held };
    let text = to_text(&begun);
    assert_eq!(text, before.replace('}', ",\"fetch\":{}}"), "nothing is said of what is nothing");
    assert_eq!(from_text(&text), Some(begun.clone()));
    let later = r#"{"stall":{"why":"eclipse"},"banned":{"aaaaaaaaaaaa":"sang"},"mood":1}"#;
    let later: ProgressRecord = from_text(&text.replace("{}", later)).unwrap();
    let fetch = later.fetch.unwrap();
    assert_eq!(fetch.stall, Some(StallRecord { why: Stall::Other, pieces: 0 }));
    assert_eq!(fetch.banned.into_values().collect::<Vec<_>>(), [Lie::Other]);
}
