//! Everything that reads bytes of others, each behind one function that takes any bytes.
//!
//! It panics if what was read breaks a promise: what is read is written again and read as the same.
//! The test beside this file feeds them mutated samples; `tests/fuzz` feeds them to libFuzzer.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use proto::artifact::{Manifest, Piece};
use proto::certificate::Certificate;
use proto::codec::{self, FRAME_BYTES_MAX};
use proto::dsse::Envelope;
use proto::id::ParseIdError;
use proto::key::Signature;
use proto::receipt::SignedReceipt;
use proto::record::{
    AllowedRecord, DriftRecord, HostRecord, ProgressRecord, RootRecord, ScopeRecord, Shelf,
    ShelfRecord, TallyRecord, from_text, to_text,
};
use proto::slices::{SLICE_BYTES, SUMS_BYTES_MAX, Slices, Sum};
use proto::statement::{ENVELOPE_BYTES_MAX, Kind, Role, Share, Window};
use proto::trust::{Chain, verify};
use proto::unit::UnitFile;
use proto::wire::{
    CONTROL_BYTES_MAX, ControlReply, ControlRequest, Found, Have, JoinReply, JoinRequest,
    SwarmRequest,
};
use proto::{
    Digest, Env, FleetId, HostId, KeyId, Name, PublicKey, Service, UnixTime, Version, Zone,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads any bytes.
type Entry = fn(&[u8]);

/// The functions, by the name of their corpus.
pub const ENTRIES: [(&str, Entry); 10] = [
    ("statement", statement),
    ("payload", payload),
    ("frame", frame),
    ("control", control),
    ("manifest", manifest),
    ("receipt", receipt),
    ("certificate", certificate),
    ("record", record),
    ("text", text),
    ("unit", unit),
];

/// The time of the vectors.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// The keys of their root, by seed.
const SEEDS: [u8; 8] = [1, 10, 20, 21, 30, 32, 34, 35];

/// What the vectors teach: a root, two releases, three rollouts, a directive.
pub static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let mut lines = statements();
    let (pinned, root) = lines.next().expect("the first line is the root");
    let mut chain = Chain::genesis(root, pinned).expect("a root that verifies");
    for (_, bytes) in lines {
        let verified = verify(&chain, bytes, NOW).expect("a statement that verifies");
        chain.learn(&verified);
    }
    chain
});

/// The statements of the vectors, with their ids.
pub fn statements() -> impl Iterator<Item = (Digest, &'static [u8])> {
    include_str!("../vectors/v1.tsv").lines().filter_map(|line| {
        let [_, id, bytes] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
        bytes
            .starts_with("{\"payloadType\"")
            .then(|| (id.parse().expect("an id"), bytes.as_bytes()))
    })
}

/// An envelope as it arrives.
pub fn statement(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes, ENVELOPE_BYTES_MAX) {
        let again = Envelope::parse(&envelope.to_bytes(), ENVELOPE_BYTES_MAX);
        assert_eq!(again.as_ref(), Ok(&envelope));
    }
    if let Ok(verified) = verify(&CHAIN, bytes, NOW) {
        assert_eq!(verified.id, verified.envelope.id());
        let again = verify(&CHAIN, &verified.envelope.to_bytes(), NOW);
        assert_eq!(again.as_ref(), Ok(&verified), "what is kept verifies as what came");
    }
}

/// A payload that everybody has signed; its kind is the first byte.
pub fn payload(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let mut envelope = Envelope::new(kind.payload_type(), payload.to_vec());
    for seed in SEEDS {
        envelope.sign(&SigningKey::from_bytes(&[seed; 32]));
    }
    let mut chain = CHAIN.clone();
    if let Ok(verified) = verify(&chain, &envelope.to_bytes(), NOW) {
        chain.learn(&verified);
        assert!(!chain.learn(&verified), "learning twice is learning once");
        assert!(chain.root().version >= CHAIN.root().version);
        for (scope, head) in CHAIN.heads() {
            let now = chain.head(scope).expect("scopes do not go away");
            assert!(now.epoch >= head.epoch, "epochs only rise");
        }
    }
}

/// A frame of any protocol but control.
pub fn frame(bytes: &[u8]) {
    reads_back::<JoinRequest>(bytes);
    reads_back::<JoinReply>(bytes);
    reads_back::<SwarmRequest>(bytes);
    reads_back::<Found>(bytes);
    reads_back::<Have>(bytes);
    reads_back::<Vec<Vec<u8>>>(bytes);
    sums(bytes);
}

/// Sums of slices, of whatever lengths: they are not of this piece.
fn sums(bytes: &[u8]) {
    reads_back::<Vec<Sum>>(bytes);
    let Ok(sums) = codec::decode::<Vec<Sum>>(bytes, SUMS_BYTES_MAX) else { return };
    let Some(before) = sums.len().checked_sub(1) else { return };
    for last in [1, SLICE_BYTES - 1, SLICE_BYTES] {
        let bytes = u32::try_from(SLICE_BYTES * before + last).expect("a short frame");
        let piece = Piece { bytes, digest: Digest::of(b"piece") };
        assert_eq!(Slices::of_piece(&piece, sums.clone()), None);
    }
}

/// A request or an answer of control.
pub fn control(bytes: &[u8]) {
    controls_read(bytes);
}

/// As how many of the two the bytes are read.
pub fn controls_read(bytes: &[u8]) -> usize {
    fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
        let read = codec::decode_json::<T>(bytes, CONTROL_BYTES_MAX);
        match &read {
            Ok(value) => {
                let frame = codec::encode_json(value, CONTROL_BYTES_MAX).expect("it is written");
                assert_eq!(codec::decode_json(&frame, CONTROL_BYTES_MAX).as_ref(), Ok(value));
            }
            Err(error) => assert!(error.to_string().len() < 2_000, "errors do not fill logs"),
        }
        read.is_ok()
    }
    let read = [reads_back::<ControlRequest>(bytes), reads_back::<ControlReply>(bytes)];
    read.into_iter().filter(|read| *read).count()
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = codec::decode::<T>(bytes, FRAME_BYTES_MAX) else { return };
    let frame = codec::encode(&value, FRAME_BYTES_MAX).expect("what was read is written");
    assert_eq!(codec::decode(&frame, FRAME_BYTES_MAX), Ok(value));
}

/// An artifact's manifest.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
    }
}

/// A receipt as it is gossiped.
pub fn receipt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(signed) = SignedReceipt::from_text(text) else { return };
    assert_eq!(SignedReceipt::from_text(&signed.to_text()), Ok(signed.clone()));
    let key = PublicKey::of(&SigningKey::from_bytes(&[100; 32]));
    if let Ok(receipt) = signed.verify(&key) {
        assert_eq!(signed.claimed_host(), Ok(receipt.host));
    }
}

/// A certificate.
pub fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    assert_eq!(Certificate::parse(&certificate.to_bytes()).as_ref(), Ok(&certificate));
    if let Some(rollout) = CHAIN.rollout(&certificate.rollout)
        && let Ok(receipts) =
            certificate.verify(certificate.rollout, rollout, &CHAIN.excuses(&certificate.rollout))
    {
        assert_eq!(receipts.len(), certificate.receipts.len());
    }
}

/// A gossiped value, or the list that one names.
pub fn record(bytes: &[u8]) {
    records_read(bytes);
}

/// As how many kinds of records, and of the lists they name, the bytes are read.
pub fn records_read(bytes: &[u8]) -> usize {
    fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> bool {
        let record = from_text::<T>(text);
        if let Some(record) = &record {
            let again = serde_json::from_str::<T>(&to_text(record)).ok();
            assert_eq!(again.as_ref(), Some(record));
        }
        record.is_some()
    }
    let shelf = Shelf::parse(bytes);
    if let Some(shelf) = &shelf {
        assert_eq!(Shelf::parse(&shelf.to_bytes()).as_ref(), Some(shelf));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let read = [
        reads_back::<HostRecord>(text),
        reads_back::<RootRecord>(text),
        reads_back::<ScopeRecord>(text),
        reads_back::<ShelfRecord>(text),
        reads_back::<TallyRecord>(text),
        reads_back::<ProgressRecord>(text),
        reads_back::<DriftRecord>(text),
        reads_back::<AllowedRecord>(text),
        shelf.is_some(),
    ];
    read.into_iter().filter(|read| *read).count()
}

/// Ids, names and shares as people write them.
pub fn text(bytes: &[u8]) {
    fn reads_back<T: FromStr<Err = ParseIdError> + PartialEq + Debug>(
        text: &str,
        show: impl Fn(&T) -> String,
    ) {
        match text.parse::<T>() {
            Ok(value) => assert_eq!(show(&value).parse(), Ok(value)),
            Err(error) => assert!(error.to_string().len() < 2_000, "errors do not fill logs"),
        }
    }
    fn plain<T: FromStr<Err = ParseIdError> + PartialEq + Debug + Display>(text: &str) {
        reads_back::<T>(text, ToString::to_string);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    reads_back::<Digest>(text, |digest| format!("{digest:#}"));
    plain::<HostId>(text);
    plain::<KeyId>(text);
    plain::<PublicKey>(text);
    plain::<Signature>(text);
    plain::<FleetId>(text);
    plain::<Service>(text);
    plain::<Env>(text);
    plain::<Zone>(text);
    plain::<Name>(text);
    plain::<Version>(text);
    plain::<Role>(text);
    plain::<Share>(text);
    plain::<Window>(text);
}

/// The file of a unit.
pub fn unit(bytes: &[u8]) {
    match UnitFile::parse(bytes) {
        Ok(unit) => {
            let lines = unit.service().count();
            assert!(lines <= bytes.len(), "what is read was there");
        }
        Err(error) => assert!(error.to_string().len() < 2_000, "errors do not fill logs"),
    }
}
