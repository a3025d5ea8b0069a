//! Bytes from anybody: nothing panics, and nothing that was bent counts.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bend;
#[expect(unreachable_pub, reason = "tests/fuzz calls them from outside")]
mod entries;

use bend::{corpus, feed};
use entries::{CHAIN, ENTRIES, NOW, controls_read, records_read, statements};
use proptest::prelude::*;
use proto::Digest;
use proto::artifact::MANIFEST_BYTES_MAX;
use proto::codec;
use proto::dsse::Envelope;
use proto::report::Fitness;
use proto::statement::{ENVELOPE_BYTES_MAX, Kind, SMALL_ENVELOPE_BYTES_MAX, Share, Statement};
use proto::trust::verify;
use proto::wire::{
    CONTROL_BYTES_MAX, ControlReply, ControlRequest, Refused, RefusedKind, ScopeHost,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Mutated samples per entry.
const TRIES: u64 = 2_000;

#[test]
fn samples_and_what_is_bent_from_them_do_not_panic() {
    feed(&ENTRIES, TRIES);
}

#[test]
fn samples_are_read() {
    // A corpus of what is refused at the first byte would prove nothing.
    for sample in corpus("statement") {
        assert!(verify(&CHAIN, &sample, NOW).is_ok());
    }
    for sample in corpus("manifest") {
        assert!(proto::artifact::Manifest::parse(&sample).is_ok());
    }
    for sample in corpus("certificate") {
        assert!(proto::certificate::Certificate::parse(&sample).is_ok());
    }
    for sample in corpus("record") {
        assert_eq!(records_read(&sample), 1, "{}", String::from_utf8_lossy(&sample));
    }
    for sample in corpus("control") {
        assert!(controls_read(&sample) > 0, "{}", String::from_utf8_lossy(&sample));
    }
    for sample in corpus("payload") {
        let kind = Kind::ALL[usize::from(sample[0])];
        let envelope = Envelope::new(kind.payload_type(), sample[1..].to_vec());
        let text = String::from_utf8_lossy(&sample[1..]);
        assert!(Statement::parse(&envelope).is_ok(), "{text}");
    }
}

/// What a newer version adds to a message of control is passed over.
#[test]
fn fields_of_a_newer_version_are_passed_over() {
    /// Adds a field to every struct; a variant's name begins with a capital.
    fn add(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(add),
            Value::Object(fields) => {
                fields.values_mut().for_each(add);
                let variant = fields.keys().any(|key| key.starts_with(char::is_uppercase));
                if !variant {
                    fields.insert("novelty".to_owned(), json!({ "of": [1, "later"] }));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        codec::decode_json(bytes, CONTROL_BYTES_MAX).ok()
    }
    for sample in corpus("control") {
        let mut newer: Value = serde_json::from_slice(&sample).unwrap();
        add(&mut newer);
        let newer = newer.to_string().into_bytes();
        let text = String::from_utf8_lossy(&newer);
        assert_eq!(read::<ControlRequest>(&newer), read(&sample), "{text}");
        assert_eq!(read::<ControlReply>(&newer), read(&sample), "{text}");
    }
}

/// A `swell` of the version before leaves the host out as one that is not heard of.
#[test]
fn a_reason_to_leave_a_host_out_that_came_later_is_told_beside_one_that_all_know() {
    let host = ScopeHost { envelope: vec![1], fitness: Fitness::NotAllowed, serves: None };
    let mut json = serde_json::to_value(&host).unwrap();
    let told = json!({ "envelope": "AQ==", "fitness": "silent", "not_allowed": true });
    assert_eq!(json, told);
    assert_eq!(serde_json::from_value::<ScopeHost>(json.clone()).unwrap(), host);
    // And one of the version before says less.
    json.as_object_mut().unwrap().remove("not_allowed");
    json["fitness"] = json!("held");
    let read: ScopeHost = serde_json::from_value(json).unwrap();
    assert_eq!(read.fitness, Fitness::Held);
}

#[test]
fn a_request_of_a_newer_version_is_refused_in_words() {
    let newer = br#"{"Dance":{"partner":"ada"}}"#;
    let error = codec::decode_json::<ControlRequest>(newer, CONTROL_BYTES_MAX).unwrap_err();
    let Refused { kind, reason, next } = Refused::not_understood(&error);
    assert_eq!(kind, RefusedKind::Invalid);
    let expected =
        "this member does not understand the request: malformed frame: unknown variant `Dance`";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(next, "if it is older than what asks it, upgrade it");
    let long = format!("\"{}\"", "x".repeat(100_000));
    let error =
        codec::decode_json::<ControlRequest>(long.as_bytes(), CONTROL_BYTES_MAX).unwrap_err();
    assert!(error.to_string().len() < 300, "what is sent does not fill logs");
}

/// The longest manifest there may be is published in one frame.
#[test]
fn the_longest_manifest_fits_a_frame() {
    let manifest = vec![b' '; usize::try_from(MANIFEST_BYTES_MAX).unwrap()];
    let release = vec![b' '; SMALL_ENVELOPE_BYTES_MAX];
    let request = ControlRequest::Publish { release, manifest };
    assert!(codec::encode_json(&request, CONTROL_BYTES_MAX).is_ok());
}

/// The envelope of these bytes with another payload, and the same signatures.
fn with_payload(bytes: &[u8], payload: &[u8]) -> Vec<u8> {
    let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
    let old = Envelope::new(envelope.payload_type(), envelope.payload().to_vec()).to_bytes();
    let new = Envelope::new(envelope.payload_type(), payload.to_vec()).to_bytes();
    let unsigned = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("[]}", "");
    let text = std::str::from_utf8(bytes).unwrap();
    let signatures = text.strip_prefix(&unsigned(old)).unwrap();
    format!("{}{signatures}", unsigned(new)).into_bytes()
}

/// Every bit of what is short; of what is longer one bit of each byte, another one in each.
fn bits(bytes: usize) -> impl Iterator<Item = usize> {
    let step = if bytes < 500 { 1 } else { 9 };
    (0..bytes * 8).step_by(step)
}

#[test]
fn any_bit_of_a_payload_flipped_is_refused() {
    for (id, bytes) in statements() {
        assert_eq!(verify(&CHAIN, bytes, NOW).unwrap().id, id);
        let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
        assert_eq!(with_payload(bytes, envelope.payload()), bytes);
        for bit in bits(envelope.payload().len()) {
            let mut payload = envelope.payload().to_vec();
            payload[bit / 8] ^= 1 << (bit % 8);
            let verified = verify(&CHAIN, &with_payload(bytes, &payload), NOW);
            assert!(verified.is_err(), "bit {bit} of {id}");
        }
    }
}

/// Wherever an envelope is bent, what is taken is the statement that was signed.
#[test]
fn any_bit_of_an_envelope_flipped_makes_no_other_statement() {
    for (id, bytes) in statements() {
        for bit in bits(bytes.len()) {
            let mut bent = bytes.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            if let Ok(verified) = verify(&CHAIN, &bent, NOW) {
                assert_eq!(verified.id, id, "bit {bit}");
            }
        }
    }
}

#[test]
fn shares_as_people_write_them() {
    let (count, percent) = (|n| Some(Share::Count(n)), |p| Some(Share::Percent(p)));
    for (text, expected) in [
        ("3", count(3)),
        ("0", count(0)),
        ("10%", percent(10.0)),
        ("2.5 %", percent(2.5)),
        ("100%", percent(100.0)),
        ("-0%", percent(0.0)),
        ("101%", None),
        ("-1", None),
        ("-1%", None),
        ("NaN%", None),
        ("inf%", None),
        ("%", None),
        ("", None),
        ("4294967296", None),
        ("1.5", None),
    ] {
        assert_eq!(text.parse::<Share>().ok(), expected, "{text:?}");
    }
    assert_eq!("-0%".parse::<Share>().unwrap().to_string(), "0%");
    for (share, of, expected) in [
        (Share::Percent(2.0), 1_000, 20),
        (Share::Percent(2.0), 49, 0),
        (Share::Percent(29.0), 100, 29),
        (Share::Percent(100.0), u32::MAX, u32::MAX),
        (Share::Count(7), 3, 7),
    ] {
        assert_eq!(share.of(of), expected, "{share} of {of}");
    }
    for (json, expected) in [
        ("3", "Ok(Count(3))"),
        ("\"10%\"", "Ok(Percent(10.0))"),
        ("-1", "expected a number such as 3"),
        ("1.5", "expected a number such as 3"),
        ("4294967296", "expected a number such as 3"),
        ("\"lots\"", "share must be"),
    ] {
        let read = format!("{:?}", serde_json::from_str::<Share>(json));
        assert!(read.contains(expected), "{json}: {read}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, entry) in ENTRIES {
            entry(&bytes);
        }
        let chain = proto::trust::Chain::genesis(&bytes, Digest::of(&bytes));
        prop_assert!(chain.is_err());
    }

    #[test]
    fn arbitrary_texts_do_not_panic(text in "\\PC{0,80}|[-a-z0-9.%:+ ]{0,70}") {
        for (_, entry) in ENTRIES {
            entry(text.as_bytes());
        }
    }
}
