//! Publishing over real QUIC: what is admitted, what is refused and why, what survives.

use coordinator::store::{Store, Which};
use net::frame;
use proto::artifact::{Entry, Manifest, Piece, What};
use proto::dsse::Envelope;
use proto::id::Digest;
use proto::statement::{Statement, UnixTime};
use proto::trust::{Chain, Standing, verify};
use proto::wire::{ControlReply, ControlRequest, RefusedKind};

use crate::fleet::*;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_release_is_checked_counter_signed_and_kept() {
    let mut fleet = Fleet::start().await;
    let ci = fleet.person(CI).await;
    let parcel = Parcel::new("1", MIB);
    assert!(parcel.pieces.len() > 2);
    let (asked, reply) = ci.publish(&parcel).await;
    let all: Vec<_> = (0..u32::try_from(parcel.pieces.len()).unwrap()).collect();
    assert_eq!(asked, all, "every piece, once");
    let id = parcel.envelope().id();
    assert_eq!(reply, ControlReply::Published { id });
    // As a host sees it, which trusts nobody's word.
    let ask = ControlRequest::Statement { id };
    let ControlReply::Statement { envelope } = ci.ask(&ask).await else { panic!() };
    let mut first = proto::statement::Payload::envelope(&fleet.root);
    first.sign(&key(ROOT));
    let chain = Chain::genesis(&first.to_bytes(), first.id()).unwrap();
    let verified = verify(&chain, &envelope, now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
    assert!(matches!(verified.statement, Statement::Release(release) if release == parcel.release));
    // The same again is done already.
    assert_eq!(ci.publish(&parcel).await, (Vec::new(), ControlReply::Published { id }));
    assert_eq!(fleet.audit().await, ["ci publish release web 1"]);
    assert_eq!(std::fs::read_dir(fleet.state("scratch")).unwrap().count(), 0);
    // A second version that shares no piece, and one that is the very same artifact.
    published(ci.publish(&Parcel::new("2", 10)).await);
    let mut same = parcel.clone();
    same.release.version = "3".parse().unwrap();
    let (asked, reply) = ci.publish(&same).await;
    assert_eq!((asked.len(), kind(&reply)), (0, None), "its pieces are here");
    assert_eq!(fleet.audit().await.len(), 3);
    // Who looks for a service finds its releases, which are in no environment.
    let store = Store::open(&fleet.state("coordinator.db")).await.unwrap();
    let web = Which { service: Some("web".parse().unwrap()), ..Which::default() };
    let told = store.events_before(u64::MAX, &web, 9).await.unwrap().events;
    assert!(told.len() == 3 && told.iter().all(|one| one.event.env.is_none()), "{told:?}");
    store.close().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_second_digest_is_refused_for_ever_and_both_are_named() {
    let mut fleet = Fleet::start().await;
    let first = Parcel::new("1", 10);
    published(fleet.person(CI).await.publish(&first).await);
    let mut second = first.clone();
    second.release.run.start = "bin/other".to_owned();
    let other_files = Parcel::new("1", 20);
    for again in [false, true] {
        if again {
            fleet.stop().await;
            fleet.start_again().await;
        }
        let ci = fleet.person(CI).await;
        for (case, parcel) in [("other words", &second), ("other files", &other_files)] {
            let (asked, reply) = ci.publish(parcel).await;
            let ControlReply::Refused(refused) = reply else { panic!("{case}") };
            assert_eq!((asked.len(), refused.kind), (0, RefusedKind::Conflict), "{case}");
            let (held, offered) = (first.envelope().id(), parcel.envelope().id());
            assert!(refused.reason.contains(&held.to_string()), "{case}: {}", refused.reason);
            assert!(refused.reason.contains(&offered.to_string()), "{case}: {}", refused.reason);
        }
    }
    assert_eq!(fleet.audit().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let mut fleet = Fleet::start().await;
    let parcel = Parcel::new("1", 3 * MIB);
    let total = u32::try_from(parcel.pieces.len()).unwrap();
    let half = total / 2;
    let ci = fleet.person(CI).await;
    let (mut send, mut recv) = ci.begin(&parcel.request()).await;
    let ControlReply::Send { pieces } = reply(&mut recv).await else { panic!() };
    assert_eq!(u32::try_from(pieces.len()).unwrap(), total);
    for piece in 0..half {
        frame::send_bytes(&mut send, parcel.piece(piece), WITHIN).await.unwrap();
    }
    // Half a piece, and the end.
    let torn = &parcel.piece(half)[..100];
    frame::send_bytes(&mut send, torn, WITHIN).await.unwrap();
    send.finish().unwrap();
    no_reply(&mut recv).await;
    assert!(fleet.audit().await.is_empty());
    // Not even a restart loses what came.
    fleet.stop().await;
    fleet.start_again().await;
    let (asked, reply) = fleet.person(CI).await.publish(&parcel).await;
    assert_eq!(asked, (half..total).collect::<Vec<_>>());
    assert_eq!(reply, ControlReply::Published { id: parcel.envelope().id() });
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_under_way_are_bounded_and_keep_nobody_else_out() {
    let fleet = Fleet::start().await;
    let ci = fleet.person(CI).await;
    let mut open = Vec::new();
    for version in ["1", "2", "3", "4"] {
        let (send, mut recv) = ci.begin(&Parcel::new(version, 10).request()).await;
        assert!(matches!(reply(&mut recv).await, ControlReply::Send { .. }));
        open.push((send, recv));
    }
    let fifth = Parcel::new("5", 10);
    assert_eq!(ci.refused(&fifth.request()).await.kind, RefusedKind::Busy);
    assert!(matches!(ci.ask(&ControlRequest::Fleet).await, ControlReply::Fleet(_)));
    let (mut send, mut recv) = open.pop().unwrap();
    send.finish().unwrap();
    no_reply(&mut recv).await;
    published(ci.publish(&fifth).await);
}

/// What a hostile publisher, whose key and signature are good, may try.
fn hostile() -> Vec<(&'static str, Parcel, &'static str)> {
    let good = Parcel::new("1", 300_000);
    let manifest = Manifest::parse(&good.manifest).unwrap();
    let data = good.pieces.concat();
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        Parcel::of("1", &manifest, &data)
    };
    let file = |path: &str| Entry {
        path: path.to_owned(),
        what: What::File { bytes: 0, digest: Digest::of(b""), executable: false },
    };
    let link = |path: &str, target: &str| Entry {
        path: path.to_owned(),
        what: What::Link { target: target.to_owned() },
    };
    // A piece whose place in the table is another frame, of the right digest.
    let piece = |frame: Vec<u8>| {
        let mut manifest = manifest.clone();
        let bytes = u32::try_from(frame.len()).unwrap();
        manifest.pieces[0] = Piece { bytes, digest: Digest::of(&frame) };
        let rest = good.pieces[1..].concat();
        Parcel::of("1", &manifest, &[frame, rest].concat())
    };
    let longer = [&good.pieces[0][..], b"more"].concat();
    let mut lengths = good.clone();
    lengths.release.artifact.raw_bytes += 1;
    let mut lie = good.clone();
    lie.release.artifact.id = Digest::of(b"another");
    let mut syntax = good.clone();
    syntax.manifest = b"{}".to_vec();
    syntax.release.artifact.id = Digest::of(b"{}");
    syntax.release.artifact.manifest_bytes = 2;
    vec![
        ("parent", with(&|m| m.entries.push(file("../x"))), "`.` or `..`"),
        ("absolute", with(&|m| m.entries.insert(0, file("/x"))), "must be relative"),
        ("control character", with(&|m| m.entries.push(file("x\n"))), "control characters"),
        ("twice", with(&|m| m.entries.push(file("version"))), "stands twice"),
        ("out of order", with(&|m| m.entries.swap(0, 2)), "out of order"),
        ("no parent", with(&|m| m.entries.push(file("z/x"))), "is not a directory"),
        ("link out", with(&|m| m.entries.push(link("x", "../../etc"))), "out of the artifact"),
        ("link absolute", with(&|m| m.entries.push(link("x", "/etc"))), "absolute path"),
        ("format", with(&|m| m.format = 9), "format 9"),
        ("piece size", with(&|m| m.piece_raw_bytes = 1), "piece_raw_bytes = 1"),
        ("too few pieces", with(&|m| m.pieces.truncate(1)), "the files need"),
        ("no manifest", syntax, "not a manifest"),
        ("lengths", lengths, "artifact.raw_bytes = "),
        ("another manifest", lie, "the release names artifact"),
        (
            "other content",
            with(&|m| {
                for entry in &mut m.entries {
                    if let What::File { digest, .. } = &mut entry.what {
                        *digest = Digest::of(b"what was promised");
                    }
                }
            }),
            "the file table says",
        ),
        ("no frame", piece(vec![7; 1_000]), "zstd frame"),
        ("bytes behind a frame", piece(longer), "follow its zstd frame"),
        ("another piece", piece(good.pieces[1].clone()), "piece 0 is not the one"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_hostile_archives_are_refused_with_a_reason() {
    let fleet = Fleet::start().await;
    let ci = fleet.person(CI).await;
    for (case, parcel, reason) in hostile() {
        let (_, reply) = ci.publish(&parcel).await;
        let ControlReply::Refused(refused) = reply else { panic!("{case}: admitted") };
        assert_eq!(refused.kind, RefusedKind::Invalid, "{case}: {}", refused.reason);
        assert!(refused.reason.contains(reason), "{case}: {}", refused.reason);
        assert_eq!(std::fs::read_dir(fleet.state("scratch")).unwrap().count(), 0, "{case}");
        let kept = std::fs::read_dir(fleet.state("swarm/artifacts")).unwrap().count();
        assert_eq!(kept, 0, "{case}: nothing of it is offered to anybody");
    }
    assert!(fleet.audit().await.is_empty());
    // Nobody took the version.
    published(ci.publish(&Parcel::new("1", 300_000)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_a_piece_that_is_not_the_one_in_the_table_is_refused_at_once() {
    let fleet = Fleet::start().await;
    let ci = fleet.person(CI).await;
    let good = Parcel::new("1", 3 * MIB);
    let mut bad = good.clone();
    bad.pieces[1][100] ^= 1;
    let (_, reply) = ci.publish(&bad).await;
    let ControlReply::Refused(refused) = reply else { panic!("admitted") };
    assert_eq!(refused.kind, RefusedKind::Invalid);
    assert!(refused.reason.contains("piece 1 of"), "{}", refused.reason);
    // The piece before it was good, and stays.
    let (asked, reply) = ci.publish(&good).await;
    assert_eq!((asked[0], kind(&reply)), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_releases_of_this_fleet_and_time_are_published() {
    let fleet = Fleet::start().await;
    let ci = fleet.person(CI).await;
    let good = Parcel::new("1", 10);
    let mut foreign = good.clone();
    foreign.release.fleet = "other-00000000".parse().unwrap();
    let mut tomorrow = good.clone();
    tomorrow.release.created = UnixTime(now().0 + 2 * 86_400);
    let mut nothing_runs = good.clone();
    nothing_runs.release.run.start = String::new();
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = [b"1", b"2"].map(|name| Digest::of(name));
    let name = proto::patch::PatchName { from, to }.to_string();
    std::fs::write(dir.path().join(name), "of somebody's own").unwrap();
    let mut data = Vec::new();
    let manifest = pack::pack(dir.path(), &mut data, &mut |_| {}).unwrap();
    let patch = Parcel::of("2", &manifest, &data);
    let unsigned = Parcel { signer: STRANGER, ..good.clone() };
    let uninvited = Parcel { signer: ADMIT, ..good.clone() };
    let cases = [
        ("without its publisher", uninvited, RefusedKind::Forbidden, "signatures of publish"),
        ("another fleet's", foreign, RefusedKind::Invalid, "is for fleet other-00000000"),
        ("from the future", tomorrow, RefusedKind::Invalid, "more than a day after"),
        ("out of range", nothing_runs, RefusedKind::Invalid, "run.start"),
        ("what has the name of a patch", patch, RefusedKind::Invalid, "taken for a patch"),
        ("a stranger's", unsigned, RefusedKind::Forbidden, "no key of this fleet"),
    ];
    for (case, parcel, kind, reason) in cases {
        let refused = ci.refused(&parcel.request()).await;
        assert_eq!(refused.kind, kind, "{case}: {}", refused.reason);
        assert!(refused.reason.contains(reason), "{case}: {}", refused.reason);
    }
    // A release that the coordinator's own key has not signed is still no statement to hand in.
    let mut envelope = Envelope::parse(&good.envelope().to_bytes(), 1 << 20).unwrap();
    envelope.sign(&key(ADMIT));
    assert_eq!(kind(&ci.submit(&envelope).await), Some(RefusedKind::Invalid));
}
