//! Statements, a receipt, a certificate and a frame as earlier builds wrote them: all of them must
//! be read for as long as there are fleets that hold such. A line is `name id bytes`, tab between.
//!
//! The file is only ever added to. `SWELL_WRITE_VECTORS=1` adds the lines that are missing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proto::certificate::{Certificate, Claim};
use proto::dsse::Envelope;
use proto::receipt::{Cause, Receipt, SignedReceipt, State};
use proto::slices::{SLICES_MAX, SUMS_BYTES_MAX};
use proto::statement::{Action, Directive, ENVELOPE_BYTES_MAX, Payload, Rollout, Statement};
use proto::trust::{Standing, verify};
use proto::wire::{NEW_PIECES_MAX, SWARM_REQUEST_BYTES_MAX, SwarmRequest, Wanted};
use proto::{Digest, HostId, codec};

use crate::fleet::*;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/v1.tsv")
}

fn failed() -> SignedReceipt {
    Receipt {
        rollout: rollout().envelope().id(),
        host: HostId::of(&public(HOSTS)),
        sequence: 7,
        attempt: 1,
        state: State::Reverted,
        cause: Some(Cause::Release),
        note: "healthz answered 500 three times".to_owned(),
    }
    .sign(&key(HOSTS))
}

/// What this version writes, by name.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let second = next(&rollout(), "2");
    let promote = directive(&rollout(), 3, Action::Promote, ANNA);
    let skip = Directive {
        host: Some(HostId::of(&public(HOSTS))),
        ..directive(&rollout(), 4, Action::Skip, ANNA)
    };
    let freeze = crate::beside::freeze(1, ANNA);
    let removal = crate::beside::removal(1, ANNA);
    let careful = Rollout {
        env: parsed("staging"),
        in_flight_max: Some(2),
        windows: vec![parsed("mon-fri 09:00-17:00")],
        retry: true,
        critical: vec!["in_flight_max".to_owned(), "windows".to_owned()],
        author: key_id(DIRK),
        ..rollout()
    };
    let certificate = Certificate {
        rollout: rollout().envelope().id(),
        claim: Claim::Halt,
        receipts: vec![failed()],
        excuses: Vec::new(),
    };
    let frame = codec::encode(&SwarmRequest::Piece { artifact: Digest::of(b"a"), index: 300 }, 256);
    vec![
        ("root", signed(&root(), &[ROOT])),
        ("host", signed(&host(HOSTS), &[HOST_CA])),
        ("release", signed(&release("1"), &[CI, COORDINATOR])),
        ("release", signed(&release("2"), &[CI, COORDINATOR])),
        ("rollout", signed(&rollout(), &[ANNA, CLEO])),
        ("rollout", signed(&second, &[ANNA])),
        ("rollout", signed(&undo(&second, COORDINATOR), &[COORDINATOR])),
        ("directive", signed(&promote, &[ANNA])),
        ("directive", signed(&skip, &[ANNA])),
        ("freeze", signed(&freeze, &[ANNA])),
        ("revocation", signed(&removal, &[ANNA])),
        ("rollout", signed(&careful, &[DIRK])),
        ("receipt", failed().to_text().into_bytes()),
        ("certificate", certificate.to_bytes()),
        (
            "frame",
            frame.unwrap().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
        ),
    ]
}

fn id_of(name: &str, bytes: &[u8]) -> Digest {
    match name {
        "receipt" | "certificate" | "frame" => Digest::of(bytes),
        _ => Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap().id(),
    }
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{name}\t{:#}\t{}\n", id_of(name, bytes), String::from_utf8_lossy(bytes))
}

#[test]
fn what_was_written_is_still_written_the_same() {
    let mut text = std::fs::read_to_string(path()).unwrap_or_default();
    let missing: String = written()
        .iter()
        .map(|(name, bytes)| line(name, bytes))
        .filter(|line| !text.contains(line.as_str()))
        .collect();
    if std::env::var_os("SWELL_WRITE_VECTORS").is_some() && !missing.is_empty() {
        text.push_str(&missing);
        std::fs::write(path(), &text).unwrap();
        return;
    }
    assert_eq!(missing, "", "the format changed: hosts of the last version read these otherwise");
}

/// The same statements, from the file alone.
#[test]
fn what_was_written_is_still_read() {
    let text = std::fs::read_to_string(path()).unwrap();
    let mut chain = None;
    let mut seen = BTreeMap::<_, u32>::new();
    for line in text.lines() {
        let [name, id, body] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (id, body) = (parsed::<Digest>(id), body.as_bytes());
        assert_eq!(id_of(name, body), id, "{name}");
        *seen.entry(name.to_owned()).or_default() += 1;
        match name {
            "root" => chain = Some(proto::trust::Chain::genesis(body, id).unwrap()),
            "receipt" => {
                let text = std::str::from_utf8(body).unwrap();
                let receipt = SignedReceipt::from_text(text).unwrap();
                assert_eq!(receipt.verify(&public(HOSTS)).unwrap().sequence, 7);
            }
            "certificate" => {
                let certificate = Certificate::parse(body).unwrap();
                let chain = chain.as_ref().unwrap();
                let rollout = chain.rollout(&certificate.rollout).unwrap();
                assert_eq!(
                    certificate
                        .verify(certificate.rollout, rollout, &BTreeMap::new())
                        .unwrap()
                        .len(),
                    1
                );
            }
            "frame" => {
                let hex = std::str::from_utf8(body).unwrap();
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let frame: Vec<_> = (0..hex.len()).step_by(2).map(byte).collect();
                let request: SwarmRequest = codec::decode(&frame, 256).unwrap();
                assert!(matches!(request, SwarmRequest::Piece { index: 300, .. }));
            }
            kind => {
                let chain = chain.as_mut().unwrap();
                let verified = verify(chain, body, NOW).unwrap();
                assert_eq!(verified.standing, Standing::Effective, "{kind}");
                assert_eq!(Statement::parse(&verified.envelope).unwrap().kind().name(), kind);
                chain.learn(&verified);
            }
        }
    }
    assert_eq!(seen.values().sum::<u32>() as usize, written().len());
}

/// The longest question there is fits its frame, and is the same bytes in every version.
#[test]
fn an_ask_for_new_pieces_fits_its_frame() {
    let artifact = Digest::of(b"a");
    let encode = |pieces: Vec<u32>| {
        codec::encode(&SwarmRequest::New { artifact, pieces }, SWARM_REQUEST_BYTES_MAX).unwrap()
    };
    assert_eq!(encode(vec![u32::MAX; NEW_PIECES_MAX]).len(), 228);
    let frame = encode(vec![7, 300, 70_000]);
    let (head, rest) = frame.split_at(3);
    let (digest, pieces) = rest.split_at(64);
    // Version, the question, the length of the digest.
    assert_eq!((head, digest), (&[1, 8, 64][..], format!("{artifact:#}").as_bytes()));
    assert_eq!(pieces, [3, 7, 251, 44, 1, 252, 112, 17, 1, 0]);
}

/// The same in slices, and the sums that answer it.
#[test]
fn an_ask_in_slices_and_its_sums_fit_their_frames() {
    let artifact = Digest::of(b"a");
    let encode = |of: Wanted| {
        codec::encode(&SwarmRequest::Sliced { artifact, of }, SWARM_REQUEST_BYTES_MAX).unwrap()
    };
    assert_eq!(encode(Wanted::New(vec![u32::MAX; NEW_PIECES_MAX])).len(), 229);
    let of_one = encode(Wanted::Piece(300));
    assert_eq!((&of_one[..3], &of_one[67..]), (&[1, 10, 64][..], &[0, 251, 44, 1][..]));
    assert_eq!(encode(Wanted::New(vec![7]))[67..], [1, 1, 7]);
    let sums = codec::encode(&vec![[7_u8; 32]; SLICES_MAX], SUMS_BYTES_MAX).unwrap();
    assert_eq!((sums.len(), &sums[..2]), (2 + 32 * SLICES_MAX, &[1, 33][..]));
}
