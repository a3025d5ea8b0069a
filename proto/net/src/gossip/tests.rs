//! The filter against hostile messages; further tests of gossip from inside below.

mod properties;
mod real;
mod simulated;
mod supervisor;
mod twins;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{ChitchatMessage, Deserializable as _};
use proto::{HostId, PublicKey};
use tokio::time::Instant;

use super::filter::{Filter, Passed};
use super::wire::{Heard, Incarnation, Message, News, Violation, Written, decode, encode};
use super::*;
use crate::common::{Fleet, key};

const NOW_MS: u64 = 1_800_000_000_000;
const BORN: u64 = NOW_MS - 60_000;

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn id(name: &str) -> HostId {
    HostId::of(&PublicKey::of(&key(name)))
}

fn life(name: &str) -> Incarnation {
    Incarnation { host: id(name), generation: BORN, addr: addr(1) }
}

fn heard(who: Incarnation) -> Heard {
    Heard { who, heartbeat: 5, version: 1 }
}

/// A value as its author signs it.
fn written(who: &Incarnation, author: &str, name: &str, version: u64, says: &str) -> Written {
    let fleet = Fleet::new("fleet-a").id();
    let text = value::sign(&key(author), &fleet, who, name, version, says);
    Written { key: name.to_owned(), text, version }
}

/// Honest news of a member.
fn news(who: &Incarnation, author: &str) -> News {
    let values = vec![written(who, author, "h", 1, "hello")];
    News { who: who.clone(), after: 0, values }
}

fn ack(delta: Vec<News>) -> Message {
    Message::Ack { delta }
}

fn syn(digest: Vec<Heard>) -> Message {
    Message::Syn { fleet: "fleet-a".to_owned(), digest }
}

/// The filter of `me`, which knows the hosts `a` and `b`.
fn filter() -> Filter {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    for host in ["me", "a", "b"] {
        directory.add_host(fleet.host(host));
    }
    Filter::new(fleet.id(), life("me"), directory, Duration::from_secs(1))
}

fn judge(filter: &mut Filter, message: &Message) -> Result<Passed, Violation> {
    filter.judge(&encode(message), NOW_MS, Instant::now())
}

/// What is left of a message that passes, as the filter wrote it.
fn left(filter: &mut Filter, message: &Message) -> Message {
    let passed = judge(filter, message).expect("passes");
    ChitchatMessage::deserialize(&mut &passed.message[..]).expect("chitchat reads it");
    decode(&passed.message).expect("and so do we")
}

// --- bytes by hand, for what `encode` cannot write ---

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    out.extend(text.as_bytes());
}

fn node(out: &mut Vec<u8>, who: &Incarnation) {
    put(out, who.host.as_str());
    out.extend(who.generation.to_le_bytes());
    out.extend([4, 10, 0, 0, 1]);
    out.extend(who.addr.port().to_le_bytes());
}

/// A digest that names `who`.
fn digest_of(who: &[Incarnation], garbage_collected: u64) -> Vec<u8> {
    let mut out = u16::try_from(who.len()).unwrap().to_le_bytes().to_vec();
    for who in who {
        node(&mut out, who);
        for number in [5, garbage_collected, 1] {
            out.extend(u64::to_le_bytes(number));
        }
    }
    out
}

/// Operations of a delta about `who`.
fn about(who: &Incarnation, garbage_collected: u64, operations: &[Vec<u8>]) -> Vec<u8> {
    let mut plain = vec![0];
    node(&mut plain, who);
    plain.extend(garbage_collected.to_le_bytes());
    plain.extend(0u64.to_le_bytes());
    plain.extend(operations.concat());
    plain
}

fn kv(name: &str, text: &str, version: u64, status: u8) -> Vec<u8> {
    let mut out = vec![1];
    put(&mut out, name);
    put(&mut out, text);
    out.extend(version.to_le_bytes());
    out.push(status);
    out
}

fn set_version(version: u64) -> Vec<u8> {
    let mut out = vec![2];
    out.extend(version.to_le_bytes());
    out
}

fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let mut out = 45_139u16.to_le_bytes().to_vec();
    out.extend([0, kind]);
    out.extend(body.concat());
    out
}

/// Plain operations as the blocks of a delta.
fn blocks(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in plain.chunks(60_000) {
        out.push(2);
        out.extend(u16::try_from(chunk.len()).unwrap().to_le_bytes());
        out.extend(chunk);
    }
    out.push(0);
    out
}

fn ack_bytes(plain: &[u8]) -> Vec<u8> {
    message(2, &[&blocks(plain)])
}

fn signed_text(who: &Incarnation, name: &str, version: u64) -> String {
    let author = ["a", "b", "me"].into_iter().find(|author| id(author) == who.host).unwrap();
    written(who, author, name, version, "x").text
}

/// The packet that kills a bare chitchat: a value of version 100, then the version is set to 50.
fn kill_packet() -> Vec<u8> {
    let a = life("a");
    let mut text = signed_text(&a, "h", 100);
    text.truncate(100);
    ack_bytes(&about(&a, 0, &[kv("h", &text, 100, 0), set_version(50)]))
}

// --- hostile messages ---

type Case = (&'static str, Vec<u8>, Violation);

/// Each message must be refused, for that reason.
fn all_refused(cases: Vec<Case>) {
    for (name, bytes, violation) in cases {
        let judged = filter().judge(&bytes, NOW_MS, Instant::now());
        assert_eq!(judged, Err(violation), "{name}");
    }
}

fn fleet_text(name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    put(&mut text, name);
    text
}

fn syn_bytes(digest: &[u8], fleet: &str) -> Vec<u8> {
    message(0, &[digest, &fleet_text(fleet)])
}

#[test]
fn r11_table_of_broken_messages() {
    let malformed = Violation::Malformed;
    let a = life("a");
    let lives = (1..=801).map(|generation| Incarnation { generation, ..a.clone() });
    let twice = digest_of(&[a.clone(), a.clone()], 0);
    let packed = zstd::bulk::compress(&vec![0; 60_000], 3).unwrap();
    let bomb = [&[1][..], &u16::try_from(packed.len()).unwrap().to_le_bytes(), &packed].concat();
    let no_id = [&[0][..], &fleet_text("node-1")].concat();
    all_refused(vec![
        ("empty", vec![], malformed("cut off")),
        ("another protocol", b"GET / HTTP/1.1".to_vec(), malformed("not chitchat, version 0")),
        ("no such type", message(9, &[]), malformed("unknown type")),
        ("bytes left over", message(2, &[&[0, 7]]), malformed("bytes left over")),
        ("too long", vec![0; 163_841], Violation::TooLong { got: 163_841, max: 163_840 }),
        ("another fleet", syn_bytes(&digest_of(&[], 0), "fleet-b"), Violation::OtherFleet),
        ("says we are another fleet", message(3, &[]), Violation::OtherFleet),
        (
            "the digest is too large",
            syn_bytes(&digest_of(&lives.collect::<Vec<_>>(), 0), "fleet-a"),
            Violation::TooManyNodes { got: 801 },
        ),
        (
            "the digest is shorter than it says",
            syn_bytes(&[0x90, 1], "fleet-a"),
            malformed("not a host id"),
        ),
        ("one twice", syn_bytes(&twice, "fleet-a"), malformed("an incarnation stands twice")),
        (
            "news of one twice",
            ack_bytes(&about(&a, 0, &[]).repeat(2)),
            malformed("an incarnation stands twice"),
        ),
        ("no host id", ack_bytes(&no_id), malformed("not a host id")),
        ("no zstd", message(2, &[&[1, 2, 0, 9, 9, 0]]), malformed("a block does not unpack")),
        (
            "a bomb",
            message(2, &[&bomb.repeat(40), &[0]]),
            Violation::TooLong { got: 35 * 60_000, max: 2 << 20 },
        ),
    ]);
}

#[test]
fn r11_table_of_what_this_fleet_never_does() {
    let a = life("a");
    let one = |operation: Vec<u8>| ack_bytes(&about(&a, 0, &[operation]));
    let value = |version, status| kv("h", &signed_text(&a, "h", version), version, status);
    let key = |n| format!("k/{n}");
    let keys: Vec<_> = (1..=49).map(|n| kv(&key(n), &signed_text(&a, &key(n), n), n, 0)).collect();
    let collected = digest_of(std::slice::from_ref(&a), 1);
    let deletes = Violation::Deletes;
    all_refused(vec![
        ("the packet that kills chitchat", kill_packet(), deletes("a version without a value")),
        ("a bare version", one(set_version(u64::MAX)), deletes("a version without a value")),
        ("a tombstone", one(value(1, 1)), deletes("a tombstone")),
        ("a value that ends", one(value(1, 2)), deletes("a tombstone")),
        (
            "a digest after garbage collection",
            syn_bytes(&collected, "fleet-a"),
            deletes("garbage collection in a digest"),
        ),
        (
            "a delta after garbage collection",
            ack_bytes(&about(&a, 1, &[])),
            deletes("garbage collection in a delta"),
        ),
        ("a value of nobody", ack_bytes(&value(1, 0)), Violation::Malformed("a value of nobody")),
        ("no such operation", one(vec![3]), Violation::Malformed("unknown operation")),
        (
            "versions that fall",
            ack_bytes(&about(&a, 0, &[value(2, 0), value(1, 0)])),
            Violation::Malformed("versions must rise"),
        ),
        ("49 keys", ack_bytes(&about(&a, 0, &keys)), Violation::TooManyKeys { host: id("a") }),
    ]);
}

#[test]
fn r11_table_of_forged_values() {
    let (a, me) = (life("a"), life("me"));
    let moved = signed_text(&a, "h", 1);
    let as_is = |who: &Incarnation, key: &str, text: &str, version| {
        ack_bytes(&about(who, 0, &[kv(key, text, version, 0)]))
    };
    let by_b = |who: &Incarnation| {
        let values = vec![written(who, "b", "h", 1, "x")];
        encode(&ack(vec![News { who: who.clone(), after: 0, values }]))
    };
    let elsewhere = Incarnation { addr: addr(2), ..a.clone() };
    let later = Incarnation { generation: BORN + 1, ..a.clone() };
    let long_key = "abcdefghijklmnopq";
    let changed = format!("{}y", &moved[..86]);
    let value = || Violation::Value { host: id("a") };
    let signature = || Violation::Signature { host: id("a") };
    all_refused(vec![
        ("capitals", as_is(&a, "H", &signed_text(&a, "H", 1), 1), value()),
        ("a long key", as_is(&a, long_key, &signed_text(&a, long_key, 1), 1), value()),
        ("a long value", as_is(&a, "h", &"x".repeat(513), 1), value()),
        ("an unsigned value", as_is(&a, "h", "hello", 1), value()),
        ("a signature over nothing", as_is(&a, "h", &"A".repeat(86), 1), signature()),
        ("b writes what a says", by_b(&a), signature()),
        ("b writes what we say", by_b(&me), Violation::Signature { host: id("me") }),
        ("under another key", as_is(&a, "g", &moved, 1), signature()),
        ("under a newer version", as_is(&a, "h", &moved, 2), signature()),
        ("in a newer life", as_is(&later, "h", &moved, 1), signature()),
        ("at another address", as_is(&elsewhere, "h", &moved, 1), signature()),
        ("one letter changed", as_is(&a, "h", &changed, 1), signature()),
    ]);
    assert!(filter().judge(&as_is(&a, "h", &moved, 1), NOW_MS, Instant::now()).is_ok());
}

/// What an honest member may send and this one cannot use is left out, and the rest counts.
#[test]
fn r11_table_of_what_is_left_out() {
    let (a, b, me) = (life("a"), life("b"), life("me"));
    let stranger = life("stranger");
    let future = Incarnation { generation: NOW_MS + 300_001, ..a.clone() };
    let ahead = Incarnation { generation: NOW_MS + 300_000, ..a.clone() };
    // Both are known to the filter before each case.
    let known = || {
        let mut filter = filter();
        judge(&mut filter, &ack(vec![news(&a, "a"), news(&b, "b")])).unwrap();
        filter
    };
    let beats = |heartbeat| Heard { heartbeat, ..heard(a.clone()) };
    // 60 s old and up to 300 s ahead, one interval is a second, and the one that has begun.
    let most = 361 * 200 + 10_000;
    let cases = [
        (
            "members that are known stay",
            syn(vec![heard(a.clone()), heard(b.clone())]),
            syn(vec![heard(a.clone()), heard(b.clone())]),
        ),
        (
            "a member nobody told us about",
            syn(vec![heard(a.clone()), heard(stranger.clone())]),
            syn(vec![heard(a.clone())]),
        ),
        (
            "news of such a one",
            ack(vec![news(&stranger, "stranger"), news(&b, "b")]),
            ack(vec![news(&b, "b")]),
        ),
        (
            "a life nothing was signed in",
            syn(vec![heard(Incarnation { generation: 7, ..a.clone() })]),
            syn(vec![]),
        ),
        (
            "an address nothing was signed with",
            syn(vec![heard(Incarnation { addr: addr(9), ..a.clone() })]),
            syn(vec![]),
        ),
        (
            "this member itself stays in digests",
            syn(vec![heard(me.clone())]),
            syn(vec![heard(me.clone())]),
        ),
        ("an echo of our own news", ack(vec![news(&me, "me")]), ack(vec![])),
        ("a clock a little ahead", ack(vec![news(&ahead, "a")]), ack(vec![news(&ahead, "a")])),
        ("a clock too far ahead", ack(vec![news(&future, "a")]), ack(vec![])),
        ("as many heartbeats as may be", syn(vec![beats(most)]), syn(vec![beats(most)])),
        (
            "more heartbeats than may be",
            syn(vec![beats(most + 1), heard(b.clone())]),
            syn(vec![heard(b.clone())]),
        ),
        ("all the heartbeats there are", syn(vec![beats(u64::MAX)]), syn(vec![])),
        (
            "no news",
            ack(vec![News { who: a.clone(), after: 3, values: vec![] }]),
            ack(vec![News { who: a.clone(), after: 3, values: vec![] }]),
        ),
    ];
    for (name, sent, expected) in cases {
        assert_eq!(left(&mut known(), &sent), expected, "{name}");
    }
    let passed = judge(&mut known(), &syn(vec![heard(stranger.clone())])).unwrap();
    assert_eq!(passed.unknown, BTreeSet::from([stranger.host]), "whom to ask for");
}

/// Everybody is from the future of a member that has lost its time, until enough of them have said
/// the same.
#[test]
fn r8_a_member_without_the_time_hears_the_others() {
    let mut filter = filter();
    let record = proto::record::HostRecord {
        coordinator: false,
        version: "1".parse().unwrap(),
        at: proto::UnixTime(NOW_MS / 1_000),
        heads: proto::Digest::of(b"heads"),
    };
    let says = |name: &str| {
        let who = life(name);
        let values = vec![written(&who, name, "h", 1, &proto::record::to_text(&record))];
        ack(vec![News { who, after: 0, values }])
    };
    let mut in_1970 =
        |message: &Message| filter.judge(&encode(message), 0, Instant::now()).unwrap().left_out;
    assert_eq!(in_1970(&says("a")), 1, "one of two others");
    assert_eq!(in_1970(&says("b")), 0);
    assert_eq!(in_1970(&says("a")), 0);
    assert_eq!(in_1970(&syn(vec![heard(life("a")), heard(life("b"))])), 0);
    let beats = |heartbeat| syn(vec![Heard { heartbeat, ..heard(life("a")) }]);
    let most = 361 * 200 + 10_000;
    assert_eq!((in_1970(&beats(most)), in_1970(&beats(most + 1))), (0, 1), "by the others' time");
}

#[test]
fn r11_a_delta_vouches_for_the_digest_beside_it() {
    let a = life("a");
    let sent = Message::SynAck { digest: vec![heard(a.clone())], delta: vec![news(&a, "a")] };
    assert_eq!(left(&mut filter(), &sent), sent);
    assert_eq!(left(&mut filter(), &syn(vec![heard(a)])), syn(vec![]), "nothing vouches for it");
}

/// As when all daemons are upgraded twice within the ten minutes that their dead lives are remembered.
#[test]
fn r11_every_host_of_a_full_fleet_may_start_anew_twice() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let names: Vec<_> = (0..HOSTS_MAX).map(|number| format!("host-{number}")).collect();
    names.iter().for_each(|name| directory.add_host(fleet.host(name)));
    let mut filter = Filter::new(fleet.id(), life("me"), directory, Duration::from_secs(1));
    let addr = SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 7070));
    let mut all = Vec::new();
    for generation in [BORN, BORN + 10_000, BORN + 20_000] {
        for name in &names {
            let who = Incarnation { generation, addr, ..life(name) };
            let passed = judge(&mut filter, &ack(vec![news(&who, name)])).unwrap();
            assert_eq!(passed.left_out, 0, "{name}");
            all.push(heard(who));
        }
    }
    let all = syn(all);
    assert_eq!(left(&mut filter, &all), all);
    let bytes = encode(&all).len();
    assert!(bytes < 60_000, "{bytes} bytes leave chitchat no room for news in 65,507");
}

#[test]
fn r11_nobody_starts_lives_without_end() {
    let mut filter = filter();
    let start = Instant::now();
    let mut at = |generation, after_s| {
        let who = Incarnation { generation, ..life("a") };
        let bytes = encode(&ack(vec![news(&who, "a")]));
        let passed = filter.judge(&bytes, NOW_MS, start + Duration::from_secs(after_s)).unwrap();
        passed.left_out == 0
    };
    let taken = (1..=100).filter(|generation| at(*generation, 0)).count();
    assert_eq!(taken, 8, "a burst");
    assert!(at(1, 0), "a life that is known goes on");
    assert!(!at(200, 29) && at(201, 30), "then one per 30 s");
}

#[test]
fn r11_a_host_has_48_keys_however_it_spreads_them() {
    let mut filter = filter();
    let a = life("a");
    let write = |filter: &mut Filter, version| {
        let values = vec![written(&a, "a", &format!("k/{version}"), version, "x")];
        judge(filter, &ack(vec![News { who: a.clone(), after: 0, values }])).unwrap().left_out
    };
    assert!((1..=48).all(|version| write(&mut filter, version) == 0));
    assert_eq!(write(&mut filter, 49), 1, "its relays are not convicted for it");
    assert_eq!(write(&mut filter, 7), 0);
}

#[test]
fn r11_what_chitchat_has_forgotten_is_forgotten() {
    let mut filter = filter();
    let a = life("a");
    let start = Instant::now();
    let knows = |filter: &mut Filter| left(filter, &syn(vec![heard(a.clone())])) != syn(vec![]);
    filter.judge(&encode(&ack(vec![news(&a, "a")])), NOW_MS, start).unwrap();
    filter.retain(&BTreeSet::new(), start + Duration::from_secs(59));
    assert!(knows(&mut filter), "chitchat may only be about to take it up");
    filter.retain(&BTreeSet::from([a.clone()]), start + Duration::from_secs(3_600));
    assert!(knows(&mut filter), "chitchat has it");
    filter.retain(&BTreeSet::new(), start + Duration::from_secs(3_600));
    assert!(!knows(&mut filter));
}

#[test]
fn r9_only_signed_news_shows_a_younger_life_of_this_host() {
    let younger = Incarnation { generation: BORN + 5, ..life("me") };
    let older = Incarnation { generation: BORN - 5, ..life("me") };
    let twin = Incarnation { generation: BORN + 9, addr: addr(9), ..life("me") };
    let mut filter = filter();
    let passed = judge(&mut filter, &syn(vec![heard(younger.clone())])).unwrap();
    assert_eq!(passed.younger_self, None, "anyone can write a digest");
    let passed = judge(&mut filter, &ack(vec![news(&older, "me")])).unwrap();
    assert_eq!(passed.younger_self, None, "an earlier life of this very host");
    let both = ack(vec![news(&younger, "me"), news(&twin, "me")]);
    let passed = judge(&mut filter, &both).unwrap();
    assert_eq!(passed.younger_self, Some(BORN + 5), "another machine is not this very host");
}
