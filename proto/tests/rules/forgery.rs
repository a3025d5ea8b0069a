//! Envelopes, keys and signatures bent in ways that two readers might read differently.

use proto::dsse::Envelope;
use proto::key::{PublicKey, Signature};
use proto::statement::{ENVELOPE_BYTES_MAX, Kind, Payload, Root};
use proto::trust::{Chain, Refusal};
use proto::{KeyId, UnixTime};

use crate::fleet::*;

#[test]
fn duplicate_fields_keys_and_signers() {
    let chain = chain_of(&root());
    let host = String::from_utf8(host(HOSTS).envelope().payload().to_vec()).unwrap();
    let kind = Kind::Host.payload_type();
    let twice = |field: &str, again: &str| {
        let bent = host.replacen(field, &format!("{again},{field}"), 1);
        assert_ne!(bent, host);
        outcome(&chain, &signed_raw(kind, bent.as_bytes(), &[HOST_CA]))
    };
    let good = String::from_utf8(signed_raw(kind, host.as_bytes(), &[HOST_CA])).unwrap();
    let bent = |from: &str, to: &str| {
        assert!(good.contains(from));
        outcome(&chain, good.replacen(from, to, 1).as_bytes())
    };
    let ca = format!("{{\"keyid\":\"{}\"", key_id(HOST_CA));
    let signature = good[good.find(&ca).unwrap()..].trim_end_matches("]}").to_owned();
    let renamed = signature.replace(key_id(HOST_CA).as_str(), key_id(COORDINATOR).as_str());
    check_rows(&[
        ("untouched", outcome(&chain, good.as_bytes()), "effective"),
        ("a field of the payload", twice("\"name\":", "\"name\":\"evil\""), "duplicate field"),
        ("a label", twice("\"env\":", "\"env\":\"staging\""), "stands twice"),
        (
            "a field of the envelope",
            bent("\"payload\":", "\"payload\":\"\",\"payload\":"),
            "duplicate field",
        ),
        (
            "the envelope's type",
            bent("\"payloadType\":", "\"payloadType\":\"\",\"payloadType\":"),
            "duplicate field",
        ),
        (
            "an unknown field beside",
            bent("\"payload\":", "\"extra\":1,\"payload\":"),
            "unknown field",
        ),
        ("one key twice", bent(&signature, &format!("{signature},{signature}")), "signs twice"),
        ("one key under another's id", bent(&signature, &renamed), "no key of this fleet"),
    ]);
}

/// One key under two ids in the root would be two votes.
#[test]
fn duplicate_keys_in_roots() {
    let good = root();
    let json = String::from_utf8(good.envelope().payload().to_vec()).unwrap();
    let kind = Kind::Root.payload_type();
    let genesis = |json: &str| {
        let bytes = signed_raw(kind, json.as_bytes(), &[ROOT]);
        let id = Envelope::parse(&bytes, ENVELOPE_BYTES_MAX).unwrap().id();
        Chain::genesis(&bytes, id)
            .map_or_else(|refusal| refusal.to_string(), |_| "effective".into())
    };
    let bent = |bend: &dyn Fn(&mut Root)| {
        let mut root = good.clone();
        bend(&mut root);
        genesis(std::str::from_utf8(root.envelope().payload()).unwrap())
    };
    let role = |name: &'static str, threshold: u8, keys: &'static [u8]| {
        bent(&|root: &mut Root| {
            root.roles.insert(parsed(name), holders(threshold, keys));
        })
    };
    let other_id: KeyId = parsed("0123456789abcdef");
    let alias = bent(&|root| {
        let entry = root.keys[&key_id(ROOT)].clone();
        root.keys.insert(other_id.clone(), entry);
    });
    let again =
        json.replacen("\"publish\":", "\"publish\":{\"keys\":[],\"threshold\":1},\"publish\":", 1);
    check_rows(&[
        ("untouched", genesis(&json), "effective"),
        ("a key under a second id", alias, "is not the id of that key"),
        ("a role twice", genesis(&again), "stands twice"),
        ("a key twice in a role", role("root", 2, &[ROOT, ROOT]), "a key stands twice"),
        ("threshold 0", role("root", 0, &[ROOT]), "must be 1 to 1"),
        ("a threshold nobody can meet", role("root", 2, &[ROOT]), "must be 1 to 1"),
        ("a key nobody knows", role("root", 1, &[STRANGER]), "is not among the keys"),
        (
            "a role of no environment",
            role("deploy:moon", 1, &[ANNA]),
            "there is no environment moon",
        ),
        (
            "the coordinator deploys",
            role("deploy:staging", 1, &[COORDINATOR]),
            "is the coordinator's",
        ),
        (
            "nobody holds root",
            bent(&|root| {
                root.roles.remove(&parsed("root"));
            }),
            "nobody holds root",
        ),
        (
            "not signed by its threshold",
            role("root", 2, &[ROOT, ROOT_2]),
            "not signed by its own threshold",
        ),
    ]);
}

#[test]
fn the_first_root_is_the_one_that_was_pinned() {
    let good = root();
    let pinned = good.envelope().id();
    let genesis = |bytes: &[u8]| {
        Chain::genesis(bytes, pinned).map_or_else(|refusal| refusal.to_string(), |_| "taken".into())
    };
    let evil = Root { expires: UnixTime(1), ..good.clone() };
    check_rows(&[
        ("the pinned one", genesis(&signed(&good, &[ROOT])), "taken"),
        ("another, well signed", genesis(&signed(&evil, &[ROOT])), "was pinned"),
        ("not signed", genesis(&signed(&good, &[])), "not signed by its own threshold"),
        (
            "signed by others",
            genesis(&signed(&good, &[ANNA, STRANGER])),
            "not signed by its own threshold",
        ),
    ]);
    let second = Root { version: 2, ..good };
    let id = second.envelope().id();
    assert_eq!(Chain::genesis(&signed(&second, &[ROOT]), id), Err(Refusal::GenesisVersion(2)));
    let host = host(HOSTS);
    let id = host.envelope().id();
    assert_eq!(
        Chain::genesis(&signed(&host, &[ROOT]), id),
        Err(Refusal::GenesisKind { kind: Kind::Host })
    );
}

/// A signature is over the kind, too: none of one kind is good for another, though the payload is
/// the same and the key holds both roles.
#[test]
fn key_confusion_across_kinds() {
    let mut root = root();
    for role in ["publish", "host-ca", "deploy:production", "emergency"] {
        root.roles.insert(parsed(role), holders(1, &[ANNA]));
    }
    let chain = chain_of(&root);
    let payload = host(HOSTS).envelope().payload().to_vec();
    for kind in Kind::ALL {
        let mut envelope = Envelope::new(kind.payload_type(), payload.clone());
        envelope.sign(&key(ANNA));
        let moved = envelope.to_bytes();
        let moved = String::from_utf8(moved)
            .unwrap()
            .replace(kind.payload_type(), Kind::Host.payload_type());
        let expected = if kind == Kind::Host { "effective" } else { "no key of this fleet" };
        let outcome = outcome(&chain, moved.as_bytes());
        assert!(outcome.contains(expected), "signed as {}: {outcome}", kind.name());
    }
    // Nor is a receipt a statement.
    let receipt = signed_raw(proto::receipt::PAYLOAD_TYPE, &payload, &[ANNA]);
    assert!(outcome(&chain, &receipt).contains("unknown kind"));
}

#[test]
fn foreign_fleets_and_strangers() {
    let chain = chain_with(&root(), &[]);
    let elsewhere = proto::statement::Release { fleet: parsed("other-00000000"), ..release("4") };
    let root_elsewhere = Root { fleet: parsed("other-00000000"), version: 2, ..root() };
    check_rows(&[
        (
            "a key of both fleets",
            outcome(&chain, &signed(&elsewhere, &[CI])),
            "for fleet other-00000000",
        ),
        (
            "a root of another",
            outcome(&chain, &signed(&root_elsewhere, &[ROOT])),
            "for fleet other",
        ),
        (
            "a stranger",
            outcome(&chain, &signed(&release("4"), &[STRANGER])),
            "no key of this fleet",
        ),
        ("nobody", outcome(&chain, &signed(&release("4"), &[])), "no key of this fleet"),
        (
            "a payload is not read for a stranger",
            outcome(&chain, &signed_raw(Kind::Rollout.payload_type(), b"{", &[STRANGER])),
            "no key of this fleet",
        ),
        (
            "a kind of later versions",
            outcome(&chain, &signed_raw("application/vnd.groundswell.quota+json", b"{}", &[ANNA])),
            "unknown kind",
        ),
    ]);
}

#[test]
fn r1_unknown_fields_pass_and_critical_ones_do_not() {
    let chain = chain_of(&root());
    let json = String::from_utf8(host(HOSTS).envelope().payload().to_vec()).unwrap();
    let with = |field: &str, critical: &str| {
        let bent = json.replacen("{", &format!("{{\"{field}\":1,"), 1).replacen(
            "\"critical\":[]",
            &format!("\"critical\":[{critical}]"),
            1,
        );
        assert_ne!(bent, json);
        outcome(&chain, &signed_raw(Kind::Host.payload_type(), bent.as_bytes(), &[HOST_CA]))
    };
    check_rows(&[
        ("a field of later versions", with("colour", ""), "effective"),
        ("that nobody may ignore", with("colour", "\"colour\""), "does not know it"),
        ("one we know", with("colour", "\"labels\""), "effective"),
    ]);
}

/// A member that does not know all of how a release wants to be run must not run it by half. It cannot
/// read the rollout either, which needs the release, whatever rules that asks for.
#[test]
fn r20_a_release_that_wants_to_be_run_in_unknown_ways_is_refused() {
    let chain = chain_of(&root());
    let json = String::from_utf8(release("1").envelope().payload().to_vec()).unwrap();
    let with = |section: &str, key: &str| {
        let opened = format!("\"{section}\":{{");
        let bent = json.replacen(&opened, &format!("{opened}\"{key}\":\"x\","), 1);
        assert_ne!(bent, json);
        let kind = Kind::Release.payload_type();
        outcome(&chain, &signed_raw(kind, bent.as_bytes(), &[CI, COORDINATOR]))
    };
    check_rows(&[
        ("to be run", with("run", "reload"), "release is malformed: unknown field `reload`"),
        ("to be asked", with("health", "grpc"), "release is malformed: unknown field `grpc`"),
        ("one we know", with("run", "check"), "effective"),
    ]);
}

/// Of the signatures of one key over one message, one form verifies.
#[test]
fn signatures_are_not_malleable() {
    // The order of the group, little-endian: s + L verifies under lax rules.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let good = Signature::of(&key(ANNA), b"message");
    assert!(public(ANNA).verifies(b"message", &good));
    let mut bytes = good.to_bytes();
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!public(ANNA).verifies(b"message", &Signature::from_bytes(&bytes)));

    for bit in 0..512 {
        let mut bytes = good.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let bent = Signature::from_bytes(&bytes);
        assert!(!public(ANNA).verifies(b"message", &bent), "bit {bit}");
    }
    // A text has one form, too: the last digit of 43 has two bits that say nothing.
    let text = public(ANNA).to_string();
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let forms = digits.chars().filter(|last| {
        format!("{}{last}", &text[..42]).parse::<PublicKey>().is_ok_and(|key| key == public(ANNA))
    });
    assert_eq!(forms.count(), 1);
}

/// Keys of small order verify signatures that nobody made.
#[test]
fn small_order_keys_are_no_keys() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let order_8 = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    let mut identity_again = [0xff; 32];
    (identity_again[0], identity_again[31]) = (0xee, 0x7f);
    for (name, bytes) in [
        ("identity", identity),
        ("zero", [0; 32]),
        ("order 2", minus_one),
        ("order 8", order_8),
        ("identity, not reduced", identity_again),
    ] {
        assert!(PublicKey::from_bytes(&bytes).is_none(), "{name}");
    }
    assert!(PublicKey::from_bytes(public(ANNA).as_bytes()).is_some());
}
