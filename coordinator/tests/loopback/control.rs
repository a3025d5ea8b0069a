//! The coordinator over real QUIC: who gets in, who may ask for what, what is recorded.

use std::net::SocketAddr;

use coordinator::daemon::Daemon;
use ed25519_dalek::SigningKey;
use net::certificate;
use net::frame::{self, FrameError};
use net::{Alpn, Directory, Endpoint, Expect, Identity};
use proto::checkup::{Grade, Topic};
use proto::dsse::Envelope;
use proto::id::{Digest, HostId, KeyId, Scope};
use proto::report::RolloutPhase;
use proto::statement::{
    Action, Directive, ENVELOPE_BYTES_MAX, Freeze, Payload as _, Revocation, Statement, Target,
};
use proto::trust::{Chain, Standing, verify};
use proto::wire::{
    AuditQuery, CONTROL_BYTES_MAX, ControlReply, ControlRequest, EventsQuery, JoinReply,
    RefusedKind, RolloutQuery,
};

use crate::fleet::*;

fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "staging".parse().unwrap() }
}

fn refused_join(reply: JoinReply) -> String {
    match reply {
        JoinReply::Refused { reason } => reason,
        JoinReply::Welcome { .. } => panic!("let in"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_a_token_makes_a_host_that_everybody_can_verify() {
    let fleet = Fleet::start().await;
    let token = fleet.token(2).await;
    assert_eq!((token.coordinator, token.key), (fleet.address(), public(ADMIT)));
    let reply = fleet.join(&token, 20).await;
    let JoinReply::Welcome { fleet: named, roots, host, certificate, seeds } = reply.clone() else {
        panic!("{reply:?}")
    };
    assert_eq!(named, fleet.root.fleet);
    assert_eq!(seeds, [fleet.address().to_string()]);
    // As the host itself does it: from nothing but the token.
    let chain = Chain::genesis(&roots[0], token.root).unwrap();
    let verified = verify(&chain, &host, now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
    let Statement::Host(statement) = verified.statement else { panic!("not a host") };
    assert_eq!((statement.key, statement.env()), (public(20), Some(scope().env)));
    let facts = certificate::facts(&certificate).unwrap();
    assert_eq!((&facts.host, facts.key), (&statement.id, public(20)));
    assert_eq!(facts.not_after.0 - facts.not_before.0, 90 * 86_400);

    // The answer was lost: it is given again, and the token still has its other use.
    let JoinReply::Welcome { host: again, .. } = fleet.join(&token, 20).await else { panic!() };
    assert_eq!(again, host);
    assert!(matches!(fleet.join(&token, 21).await, JoinReply::Welcome { .. }));
    assert_eq!(refused_join(fleet.join(&token, 22).await), "the token is used up");
    let audit = fleet.audit().await;
    assert_eq!(audit.len(), 3, "{audit:?}");
    assert!(audit[0].starts_with("ada token-create token "), "{audit:?}");
    assert!(audit[1].ends_with(&format!(" host-join host {}", statement.id)), "{audit:?}");
}

/// More than gossip bears would make all of them mute, and not only the last.
#[tokio::test(flavor = "multi_thread")]
async fn r11_a_full_fleet_lets_nobody_in_and_says_so() {
    let fleet = Fleet::start().await;
    let token = fleet.token(300).await;
    let join = async |number: u16| {
        let [high, low] = number.to_be_bytes();
        let from = SocketAddr::from(([127, 65, high, low], 0));
        let key = SigningKey::from_bytes(Digest::of(&[high, low]).as_bytes());
        fleet.join_from(from, &token, &key, &format!("host-{number}")).await
    };
    for number in 1..=256 {
        let reply = join(number).await;
        assert!(matches!(reply, JoinReply::Welcome { .. }), "{number}: {reply:?}");
    }
    let why = refused_join(join(257).await);
    assert!(
        why.starts_with("the fleet has 256 hosts") && why.contains("swell host remove"),
        "{why}"
    );
    assert!(matches!(join(7).await, JoinReply::Welcome { .. }), "its answer was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_whoever_has_no_good_token_is_told_why() {
    let fleet = Fleet::start().await;
    let token = fleet.token(1).await;
    let mut other = token.clone();
    other.token = [9; 8];
    assert_eq!(refused_join(fleet.join(&other, 20).await), "there is no such token here");
    let mut other = token.clone();
    other.secret[0] ^= 1;
    assert_eq!(refused_join(fleet.join(&other, 20).await), "the token's secret is wrong");
    let ada = fleet.person(ADA).await;
    let ControlReply::Tokens(tokens) = ada.ask(&ControlRequest::TokenList).await else { panic!() };
    assert_eq!((tokens.len(), tokens[0].uses_left, tokens[0].revoked), (1, 1, false));
    let revoke = ControlRequest::TokenRevoke { token: tokens[0].token.clone() };
    assert_eq!(ada.ask(&revoke).await, ControlReply::Done);
    assert_eq!(refused_join(fleet.join(&token, 20).await), "the token was revoked");
    let unknown = ControlRequest::TokenRevoke { token: "0123456789abcdef".to_owned() };
    assert_eq!(ada.refused(&unknown).await.kind, RefusedKind::NotFound);
    assert_eq!(fleet.audit().await.len(), 2, "a refusal is logged, not recorded");
}

/// R4: CI's key, in whoever's hands, may publish; it may not lock the operators out.
#[tokio::test(flavor = "multi_thread")]
async fn r4_a_key_that_asks_and_does_not_finish_keeps_nobody_out() {
    let fleet = Fleet::start().await;
    let (mut clients, mut half_asked) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let ci = fleet.person(CI).await;
        for _ in 0..8 {
            let (mut send, recv) = ci.connection.open_bi().await.unwrap();
            frame::send_bytes(&mut send, &[0, 0], WITHIN).await.unwrap();
            half_asked.push((send, recv));
        }
        clients.push(ci);
    }
    // Most of them have arrived by then; if not, this test sees less.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let ada = fleet.person(ADA).await;
    let answer = ada.ask(&ControlRequest::TokenList);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(15), answer).await;
    assert_eq!(answer.expect("she waits for CI"), ControlReply::Tokens(Vec::new()));
}

/// Its length is seen first. Of a host a statement is read at most, so that many of them take little.
#[tokio::test(flavor = "multi_thread")]
async fn r4_a_request_that_is_too_long_is_neither_read_nor_answered() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let (ada, host) = (fleet.person(ADA).await, fleet.client(host.identity()).await);
    for (client, bytes_max) in [(ada, CONTROL_BYTES_MAX), (host, ENVELOPE_BYTES_MAX + 1_024)] {
        let (mut send, mut recv) = client.connection.open_bi().await.unwrap();
        let length = u32::try_from(bytes_max + 1).unwrap().to_be_bytes();
        frame::send_bytes(&mut send, &length, WITHIN).await.unwrap();
        // Sooner than whoever waits for the rest of it gives up.
        let soon = std::time::Duration::from_secs(20);
        let answer = frame::recv_json::<ControlReply>(&mut recv, 100, soon).await;
        assert!(matches!(answer, Err(FrameError::Ended)), "{bytes_max}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_by_that_name_is_refused_with_what_was_likely_meant() {
    let fleet = Fleet::start().await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    published(ci.publish(&Parcel::new("1", 10)).await);
    let events = |query: EventsQuery| ControlRequest::Events(Box::new(query));
    let of = |service: &str, env: &str| Scope {
        service: service.parse().unwrap(),
        env: env.parse().unwrap(),
    };
    let labels = vec![(name("env"), name("stagin"))];
    let all = EventsQuery { limit: 9, ..EventsQuery::default() };
    let cases = [
        (ControlRequest::TokenCreate { uses: 1, ttl_s: 60, labels }, "staging"),
        (ControlRequest::Scope(of("wbe", "staging")), "web"),
        (ControlRequest::Scope(of("web", "stagin")), "staging"),
        (ControlRequest::Dora { scope: of("wbe", "staging"), days: 9 }, "web"),
        (ControlRequest::Releases { service: "wbe".parse().unwrap() }, "web"),
        (ControlRequest::Rollout(RolloutQuery::Scope(of("web", "stagin"))), "staging"),
        (events(EventsQuery { service: Some("wbe".parse().unwrap()), ..all.clone() }), "web"),
        (
            events(EventsQuery { kind: Some("root-expirin".to_owned()), ..all.clone() }),
            "root-expiring",
        ),
        (
            ControlRequest::Audit(Box::new(AuditQuery {
                action: Some("publsh".to_owned()),
                ..AuditQuery::default()
            })),
            "publish",
        ),
    ];
    for (request, meant) in cases {
        let refused = ada.refused(&request).await;
        assert_eq!(refused.kind, RefusedKind::NotFound, "{request:?}: {refused:?}");
        let told = (refused.next.as_str(), refused.next.contains("did you mean"));
        let only = format!("there is only {meant}");
        assert!(told.1 && told.0.contains(meant) || told.0 == only, "{request:?}: {refused:?}");
    }
    let ControlReply::Events(told) = ada.ask(&events(all)).await else { panic!() };
    assert!(told.iter().any(|event| event.kind == "release-published"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_each_key_gets_what_its_roles_allow() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let as_host = fleet.client(host.identity()).await;
    let parcel = Parcel::new("1", 10);
    let token = ControlRequest::TokenCreate { uses: 1, ttl_s: 60, labels: Vec::new() };
    let scope = ControlRequest::Scope(scope());
    let cases = [
        ("CI makes a token", &ci, token.clone(), Some(RefusedKind::Forbidden)),
        ("CI sees tokens", &ci, ControlRequest::TokenList, Some(RefusedKind::Forbidden)),
        ("a host makes a token", &as_host, token, Some(RefusedKind::Forbidden)),
        ("a host publishes", &as_host, parcel.request(), Some(RefusedKind::Forbidden)),
        ("an operator publishes", &ada, parcel.request(), Some(RefusedKind::Forbidden)),
        ("a person renews", &ada, ControlRequest::Renew, Some(RefusedKind::Forbidden)),
        ("CI reads", &ci, ControlRequest::Fleet, None),
        // They may, and nothing was published of it yet.
        ("an operator reads", &ada, scope.clone(), Some(RefusedKind::NotFound)),
        ("a host reads", &as_host, scope, Some(RefusedKind::NotFound)),
        ("a host renews", &as_host, ControlRequest::Renew, None),
    ];
    for (case, client, request, refused) in cases {
        assert_eq!(kind(&client.ask(&request).await), refused, "{case}");
    }
    // The connection's key is one thing, the signature on the release another.
    let unsigned = Parcel { signer: ADA, ..parcel };
    let refused = ci.refused(&unsigned.request()).await;
    assert_eq!(refused.kind, RefusedKind::Forbidden);
    assert!(refused.reason.contains("may not sign this release"), "{}", refused.reason);
    // A key that stands in no root does not even get a connection.
    let directory = Directory::new(fleet.root.clone());
    let identity = Identity::person(key(STRANGER)).unwrap();
    let stranger = Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, directory).unwrap();
    let dialled = stranger.connect(Alpn::Control, fleet.address(), Expect::Coordinator).await;
    assert!(dialled.unwrap_err().to_string().contains("is not in the root"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_renews_its_own_certificate() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let client = fleet.client(host.identity()).await;
    let ControlReply::Certificate { der } = client.ask(&ControlRequest::Renew).await else {
        panic!()
    };
    let facts = certificate::facts(&der).unwrap();
    assert_eq!((facts.host, facts.key), (host.id(), host.statement.key));
    let renewed = JoinedHost { certificate: der, ..host };
    fleet.client(renewed.identity()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_is_judged_recorded_and_told() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let parcel = Parcel::new("1", 10);
    let release = published(ci.publish(&parcel).await);
    let to = Target { release, version: "1".parse().unwrap() };
    let mut envelope = rollout(to, &[&host]).envelope();
    assert_eq!(kind(&ada.submit(&envelope).await), Some(RefusedKind::Forbidden), "unsigned");
    envelope.sign(&key(ADA));
    let id = envelope.id();
    let taken =
        ControlReply::Submitted { id, effective: true, superseded_by: None, note: String::new() };
    // Whoever brings it: it counts by its own signatures.
    let as_host = fleet.client(host.identity()).await;
    assert_eq!(as_host.submit(&envelope).await, taken);
    assert_eq!(ada.submit(&envelope).await, taken, "again changes nothing");

    let directive = Directive {
        fleet: fleet.root.fleet.clone(),
        rollout: id,
        sequence: 1,
        action: Action::Pause,
        wave: None,
        host: None,
        author: KeyId::of(&public(ADA)),
        created: now(),
        reason: "to look at it".to_owned(),
        critical: Vec::new(),
    };
    let mut pause = directive.envelope();
    pause.sign(&key(ADA));
    assert_eq!(kind(&ada.submit(&pause).await), None);
    let query = RolloutQuery::Scope(scope());
    let ControlReply::Rollout(report) = ada.ask(&ControlRequest::Rollout(query)).await else {
        panic!()
    };
    assert_eq!((report.id, report.phase), (id, RolloutPhase::Paused));
    assert_eq!(report.hosts[0].name.as_str(), "host-20");
    let mut older = Directive { action: Action::Resume, ..directive }.envelope();
    older.sign(&key(ADA));
    assert_eq!(kind(&ada.submit(&older).await), Some(RefusedKind::Conflict));
    assert_eq!(kind(&ada.submit(&parcel.envelope()).await), Some(RefusedKind::Invalid));

    let audit = fleet.audit().await;
    let submitted: Vec<_> = audit.iter().filter(|entry| entry.contains(" submit ")).collect();
    let expected =
        [format!("ada submit rollout {id:#}"), format!("ada submit directive {:#}", pause.id())];
    assert_eq!(submitted, expected.iter().collect::<Vec<_>>());
}

/// Its key is let in nowhere from then on, though its token and its certificate would still do.
#[tokio::test(flavor = "multi_thread")]
async fn r9_a_removed_host_is_hung_up_on_and_lets_itself_in_no_more() {
    let fleet = Fleet::start().await;
    let token = fleet.token(1).await;
    let JoinReply::Welcome { certificate, .. } = fleet.join(&token, 20).await else { panic!() };
    let identity = || Identity::host(key(20), certificate.clone()).unwrap();
    let (as_host, ada) = (fleet.client(identity()).await, fleet.person(ADA).await);
    let id = HostId::of(&public(20));
    let removal = |author| {
        let removal = Revocation {
            fleet: fleet.root.fleet.clone(),
            env: scope().env,
            host: id.clone(),
            author: KeyId::of(&public(author)),
            created: now(),
            reason: "sold".to_owned(),
            critical: Vec::new(),
        };
        let mut envelope = removal.envelope();
        envelope.sign(&key(author));
        envelope
    };
    assert_eq!(kind(&ada.submit(&removal(ADMIT)).await), Some(RefusedKind::Forbidden));
    assert!(!as_host.connection.is_closed());
    let removal = removal(ADA);
    assert_eq!(kind(&ada.submit(&removal).await), None);
    let lost = tokio::time::timeout(WITHIN, as_host.connection.closed()).await.unwrap();
    assert!(lost.to_string().contains("was removed from the fleet: sold"), "{lost}");
    let endpoint = Endpoint::bind(
        "127.0.0.1:0".parse().unwrap(),
        identity(),
        Directory::new(fleet.root.clone()),
    );
    let dialled =
        endpoint.unwrap().connect(Alpn::Control, fleet.address(), Expect::Coordinator).await;
    let refused = dialled.unwrap_err().to_string();
    assert!(refused.contains("was removed from the fleet: sold"), "{refused}");
    let again = refused_join(fleet.join(&token, 20).await);
    assert!(again.contains("removed from the fleet (sold): join anew with another key"), "{again}");
    let audit = fleet.audit().await;
    let entry = format!("ada submit revocation {:#}", removal.id());
    assert!(audit.contains(&entry), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_taken_in_and_recorded() {
    let fleet = Fleet::start().await;
    let ada = fleet.person(ADA).await;
    let freeze = |author: u8, sequence, lasts_s| {
        let freeze = Freeze {
            fleet: fleet.root.fleet.clone(),
            env: scope().env,
            host: None,
            sequence,
            until: now().plus_s(lasts_s),
            author: KeyId::of(&public(author)),
            created: now(),
            reason: "audit".to_owned(),
            critical: Vec::new(),
        };
        let mut envelope = freeze.envelope();
        envelope.sign(&key(author));
        envelope
    };
    let frozen = freeze(ADA, 2, 3_600);
    let id = frozen.id();
    let taken =
        ControlReply::Submitted { id, effective: true, superseded_by: None, note: String::new() };
    assert_eq!(ada.submit(&frozen).await, taken);
    assert!(kind(&ada.submit(&freeze(ADA, 1, 7_200)).await).is_some(), "an older one");
    assert_eq!(kind(&ada.submit(&freeze(BOB, 3, 60)).await), Some(RefusedKind::Forbidden));
    let audit = fleet.audit().await;
    assert_eq!(audit, [format!("ada submit freeze {id:#}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_an_approval_is_one_more_signature() {
    let mut fleet = Fleet::new(root(1));
    fleet.start_again().await;
    let host = fleet.host(20).await;
    let (ada, bob) = (fleet.person(ADA).await, fleet.person(BOB).await);
    let release = published(fleet.person(CI).await.publish(&Parcel::new("1", 10)).await);
    let to = Target { release, version: "1".parse().unwrap() };
    let mut envelope = rollout(to, &[&host]).envelope();
    envelope.sign(&key(ADA));
    let ControlReply::Submitted { effective, note, .. } = ada.submit(&envelope).await else {
        panic!()
    };
    assert!(!effective && note.contains("0 of 1 approvals"), "{note}");
    let latest = ControlRequest::Rollout(RolloutQuery::Latest);
    let ControlReply::Rollout(report) = bob.ask(&latest).await else { panic!() };
    assert_eq!(report.phase, RolloutPhase::Pending);
    // Bob fetches what he approves, and sends back only his own signature.
    let ask = ControlRequest::Statement { id: report.id };
    let ControlReply::Statement { envelope: bytes } = bob.ask(&ask).await else { panic!() };
    let mut approved = Envelope::parse(&bytes, bytes.len()).unwrap();
    approved.sign(&key(BOB));
    let ControlReply::Submitted { effective, .. } = bob.submit(&approved).await else { panic!() };
    assert!(effective);
    let audit = fleet.audit().await;
    let actors: Vec<_> = audit
        .iter()
        .filter(|entry| entry.contains(" submit "))
        .map(|entry| entry.split(' ').next().unwrap().split('+').count())
        .collect();
    assert_eq!(actors, [1, 2], "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_of_which_no_host_would_hear_is_refused() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let submit = async |service: &str, to: Target| {
        let mut first = rollout(to, &[&host]);
        first.service = service.parse().unwrap();
        let mut envelope = first.envelope();
        envelope.sign(&key(ADA));
        ada.submit(&envelope).await
    };
    let target = async |service: &str| {
        let mut parcel = Parcel::new("1", 10);
        parcel.release.service = service.parse().unwrap();
        let release = published(ci.publish(&parcel).await);
        Target { release, version: "1".parse().unwrap() }
    };
    for service in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let to = target(service).await;
        let reply = submit(service, to).await;
        assert!(matches!(reply, ControlReply::Submitted { effective: true, .. }), "{reply:?}");
    }
    let ControlReply::Refused(refused) = submit("i", target("i").await).await else { panic!() };
    assert_eq!(refused.kind, RefusedKind::Conflict);
    assert!(refused.reason.contains("would not be told of i/staging"), "{}", refused.reason);
    assert!(refused.next.starts_with("make another fleet"), "{}", refused.next);
    target("web").await;
    let facts = ada.ask(&ControlRequest::Scope(scope())).await;
    let ControlReply::Scope(facts) = facts else { panic!("{facts:?}") };
    assert_eq!(facts.scopes, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_hosts_read_what_there_is() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let parcel = Parcel::new("1", 10);
    let id = published(ci.publish(&parcel).await);
    let as_host = fleet.client(host.identity()).await;
    let ask = ControlRequest::Release { service: scope().service, version: "1".parse().unwrap() };
    let ControlReply::Statement { envelope } = as_host.ask(&ask).await else { panic!() };
    let envelope = Envelope::parse(&envelope, envelope.len()).unwrap();
    assert_eq!(envelope.id(), id);
    assert!(envelope.signed_by(&public(CI)) && envelope.signed_by(&public(ADMIT)));
    let releases = ControlRequest::Releases { service: scope().service };
    let expected = ControlReply::Releases(vec![("1".parse().unwrap(), id)]);
    assert_eq!(ada.ask(&releases).await, expected);
    let missing =
        ControlRequest::Release { service: scope().service, version: "2".parse().unwrap() };
    assert_eq!(ada.refused(&missing).await.kind, RefusedKind::NotFound);
    let ControlReply::Fleet(report) = ada.ask(&ControlRequest::Fleet).await else { panic!() };
    assert_eq!((report.hosts.len(), report.root_version), (1, 1));
    assert_eq!(report.hosts[0].id, host.id());
    assert!(!report.hosts[0].alive && report.hosts[0].services.is_empty());
    let ControlReply::Scope(facts) = ada.ask(&ControlRequest::Scope(scope())).await else {
        panic!()
    };
    assert_eq!((facts.hosts.len(), facts.rollout, facts.stable), (1, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_what_is_no_request_is_refused_and_harms_nobody() {
    let fleet = Fleet::start().await;
    let ada = fleet.person(ADA).await;
    let frame = |length: u32, body: &[u8]| [&length.to_be_bytes()[..], body].concat();
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    send.write_all(&frame(u32::MAX, &[1; 64])).await.unwrap();
    let answer = no_reply(&mut recv).await;
    assert!(!matches!(answer, FrameError::Timeout { .. }), "endless data: {answer}");
    let cases: [(&str, &[u8]); 4] = [
        ("another encoding", &[1, 0]),
        ("nothing", b""),
        ("of a later version", br#"{"Dance":{}}"#),
        ("bytes left over", br#""Fleet" 1"#),
    ];
    for (case, body) in cases {
        let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
        send.write_all(&frame(u32::try_from(body.len()).unwrap(), body)).await.unwrap();
        let answer = reply(&mut recv).await;
        assert_eq!(kind(&answer), Some(RefusedKind::Invalid), "{case}: {answer:?}");
        assert!(matches!(ada.ask(&ControlRequest::Fleet).await, ControlReply::Fleet(_)), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_comes_back_knows_what_it_knew() {
    let mut fleet = Fleet::start().await;
    let token = fleet.token(2).await;
    let host = fleet.host(20).await;
    let id = published(fleet.person(CI).await.publish(&Parcel::new("1", 300_000)).await);
    fleet.stop().await;
    fleet.start_again().await;
    let ada = fleet.person(ADA).await;
    let ask = ControlRequest::Statement { id };
    assert_eq!(kind(&ada.ask(&ask).await), None);
    fleet.client(host.identity()).await;
    assert!(matches!(fleet.join(&token, 21).await, JoinReply::Welcome { .. }));
    // The swarm's statements are lost: the database still knows its hosts.
    fleet.stop().await;
    std::fs::remove_dir_all(fleet.state("swarm")).unwrap();
    fleet.start_again().await;
    let ada = fleet.person(ADA).await;
    let ControlReply::Fleet(report) = ada.ask(&ControlRequest::Fleet).await else { panic!() };
    assert_eq!(report.hosts.len(), 2);
    // Its releases, as after a crash between the record of one and its statement.
    assert_eq!(kind(&ada.ask(&ask).await), None);
    // And which release a version is, whatever the fleet can still tell.
    let refused = fleet.person(CI).await.publish(&Parcel::new("1", 200_000)).await.1;
    assert_eq!(kind(&refused), Some(RefusedKind::Conflict));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_its_role_is_found_at_the_start() {
    let fleet = Fleet::new(root(0));
    std::fs::rename(&fleet.config.host_ca_key, fleet.dir.path().join("away")).unwrap();
    let started = Daemon::start(&fleet.config).await;
    let error = started.err().map(|error| member::chain(&error)).unwrap();
    assert!(error.contains("host-ca.key"), "{error}");
    std::fs::copy(&fleet.config.admit_key, &fleet.config.host_ca_key).unwrap();
    let started = Daemon::start(&fleet.config).await;
    let error = started.err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("host-ca.key") && error.contains("role host-ca"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_looks_itself_over_for_people_alone() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let refused = fleet.client(host.identity()).await.refused(&ControlRequest::Checkup).await;
    assert_eq!(refused.kind, RefusedKind::Forbidden, "{refused:?}");
    let ci = fleet.person(CI).await;
    let ControlReply::Checkup(findings) = ci.ask(&ControlRequest::Checkup).await else { panic!() };
    let found: Vec<_> = findings.iter().map(|one| (one.topic, one.grade)).collect();
    for topic in [Topic::Database, Topic::Keys, Topic::Clock, Topic::Network] {
        assert!(found.contains(&(topic, Grade::Good)), "{topic:?}: {findings:?}");
    }
    // The root of these tests is good for a day; the one host that joined has no agent.
    assert!(found.contains(&(Topic::Root, Grade::Doubt)), "{findings:?}");
    assert!(found.contains(&(Topic::Hosts, Grade::Wrong)), "{findings:?}");
    assert!(findings.is_sorted_by_key(|one| std::cmp::Reverse(one.grade)), "the worst first");
}
