//! What arrives over plain HTTP on loopback.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coordinator::events::Kind::{
    HostFailed, HostLost, ReleasePublished, RolloutComplete, RolloutHalted, RolloutHeld,
    RolloutMoves, RolloutRolledBack, RolloutStarted, WaveOpened,
};
use coordinator::store::Store;
use proto::wire::{ControlReply, RefusedKind};
use ring::hmac;

use crate::receiver::*;

fn webhook(receiver: &Receiver, more: &str) -> String {
    let url = receiver.url("/hook?of=us");
    format!(
        "[[notify]]\nname = \"bot\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"bot\"\n{more}\n"
    )
}

fn ids(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|one| one.header("webhook-id")).collect()
}

fn kinds(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|one| one.json()["data"]["kind"].as_str().unwrap().to_owned()).collect()
}

/// As a receiver verifies it: by the specification, from the bytes that came.
fn verify(sent: &Sent) {
    let key = STANDARD.decode(SIGNING.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let (id, time) = (sent.header("webhook-id"), sent.header("webhook-timestamp"));
    assert!(!id.contains('.'));
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(&sent.bytes);
    let signature = sent.header("webhook-signature").strip_prefix("v1,").unwrap();
    hmac::verify(&key, &signed, &STANDARD.decode(signature).unwrap()).unwrap();
    let age = member::clock::unix().0.abs_diff(time.parse().unwrap());
    assert!(age < 300, "sent now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_each_event_in_order_signed_and_nothing_from_before() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(takes).await;
    let config = webhook(&receiver, "envs = [\"production\"]");
    let before = Store::open(&dir.path().join("coordinator.db")).await.unwrap();
    before.events_keep(&[event("old", RolloutComplete)]).await.unwrap();
    before.close().await;
    let telling = Telling::start(dir.path(), &config).await;
    let mut elsewhere = event("other", RolloutComplete);
    elsewhere.env = Some("staging".parse().unwrap());
    let nowhere = coordinator::events::Event { env: None, ..elsewhere.clone() };
    telling.keep(&[event("a", RolloutStarted), elsewhere, nowhere, event("a", WaveOpened)]).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    let sent = receiver.wait(3).await;
    assert_eq!(kinds(&sent), ["rollout-started", "wave-opened", "rollout-complete"]);
    sent.iter().for_each(verify);
    let first = sent[0].json();
    assert_eq!(first["type"], "rollout.started");
    assert_eq!(
        (sent[0].path.as_str(), sent[0].header("content-type")),
        ("/hook?of=us", "application/json")
    );
    // A host is of no service, and is somewhere all the same.
    let lost = event("n7", HostLost);
    telling.keep(&[coordinator::events::Event { service: None, rollout: None, ..lost }]).await;
    assert_eq!(kinds(&receiver.wait(4).await)[3], "host-lost");
    telling.until(|tally| tally.delivered == 4 && tally.waiting == 0 && tally.last.is_some()).await;
    telling.stop().await;
    assert_eq!(receiver.sent().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_the_coordinator_died_comes_again_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    // The first one is not answered: it came, and nobody knows.
    let receiver = Receiver::start(|number| {
        if number == 0 {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        takes(number)
    })
    .await;
    let config = webhook(&receiver, "");
    let telling = Telling::start(dir.path(), &config).await;
    telling.keep(&[event("a", RolloutStarted), event("a", RolloutComplete)]).await;
    receiver.wait(1).await;
    telling.kill().await;
    let telling = Telling::start(dir.path(), &config).await;
    let sent = receiver.wait(3).await;
    assert_eq!(kinds(&sent), ["rollout-started", "rollout-started", "rollout-complete"]);
    let ids = ids(&sent);
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    sent.iter().for_each(verify);
    telling.until(|tally| tally.delivered == 2 && tally.waiting == 0).await;
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_the_coordinator_and_what_fails_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(|number| match number {
        0 => status(503, "later"),
        1 => status(500, "still"),
        _ => takes(number),
    })
    .await;
    let config = webhook(&receiver, "");
    let telling = Telling::start(dir.path(), &config).await;
    telling.keep(&[event("a", RolloutStarted)]).await;
    telling.until(|tally| tally.fault.as_deref() == Some("it answers 503: later")).await;
    telling.kill().await;
    let telling = Telling::start(dir.path(), &config).await;
    let sent = receiver.wait(3).await;
    assert!(ids(&sent).windows(2).all(|pair| pair[0] == pair[1]), "{sent:?}");
    telling.until(|tally| tally.delivered == 1 && tally.fault.is_none()).await;
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_dropped_at_once_and_redirects_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(|number| match number {
        0 => status(410, "no such hook"),
        1 => {
            let mut moved = status(307, "");
            moved.headers_mut().insert("location", "/elsewhere".parse().unwrap());
            moved
        }
        _ => takes(number),
    })
    .await;
    let telling = Telling::start(dir.path(), &webhook(&receiver, "")).await;
    let events = [RolloutStarted, WaveOpened, RolloutComplete].map(|kind| event("a", kind));
    telling.keep(&events[..1]).await;
    telling.until(|tally| tally.fault.as_deref() == Some("it answers 410: no such hook")).await;
    telling.keep(&events[1..]).await;
    telling.until(|tally| (tally.dropped, tally.delivered) == (2, 1)).await;
    let sent = receiver.sent();
    assert_eq!(kinds(&sent), ["rollout-started", "wave-opened", "rollout-complete"]);
    assert!(sent.iter().all(|one| one.path == "/hook?of=us"));
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_gets_one_message_for_what_waited_together_and_its_url_is_shown_nowhere() {
    const PATH: &str = "/services/T0/B0/s3cret0123456789";
    let dir = tempfile::tempdir().unwrap();
    // It quotes the URL, as a proxy may.
    let receiver = Receiver::start(|number| match number {
        0 => status(500, PATH),
        _ => takes(number),
    })
    .await;
    secret(dir.path(), "chat", &receiver.url(PATH));
    let config = "[[notify]]\nname = \"chat\"\nkind = \"slack\"\nurl_file = \"chat\"\n";
    let telling = Telling::start(dir.path(), config).await;
    let kinds = [ReleasePublished, RolloutStarted, WaveOpened, RolloutHeld, RolloutMoves];
    telling.keep(&kinds.map(|kind| event("a", kind))).await;
    telling.until(|tally| tally.fault.is_some()).await;
    // It was tried once: what comes now is another message.
    telling.keep(&[event("b", RolloutComplete), event("a", RolloutComplete)]).await;
    let fault = telling.store.receivers().await.unwrap().remove(0).fault.unwrap();
    assert_eq!(fault, "it answers 500; what it says beside that quotes a secret");
    let sent = receiver.wait(4).await;
    let lines = |sent: &Sent| {
        let message = sent.json();
        let section = message["blocks"][1]["text"]["text"].as_str().unwrap().to_owned();
        section.lines().map(|line| line.rsplit(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = ["rollout-held", "rollout-moves", "rollout-started"];
    assert_eq!(lines(&sent[0]), first);
    let mut others: Vec<_> = sent[1..].iter().map(lines).collect();
    others.sort();
    assert_eq!(others, [vec!["rollout-complete"], vec!["rollout-complete"], first.to_vec()]);
    assert!(sent.iter().all(|one| one.path == PATH));
    assert_eq!(sent[0].json()["blocks"][0]["text"]["text"], "a: rollout-held");
    let told = format!("{:?}", telling.office.list().await.unwrap());
    assert!(!told.contains("s3cret"), "{told}");
    telling.stop().await;
    let database = std::fs::read(dir.path().join("coordinator.db")).unwrap();
    let has = database.windows(6).any(|part| part == b"s3cret");
    assert!(!has, "the database has the secret");
}

fn pagerduty(receiver: &Receiver) -> String {
    let url = receiver.url("");
    format!(
        "[[notify]]\nname = \"pager\"\nkind = \"pagerduty\"\nurl = \"{url}\"\nkey_file = \"key\"\n"
    )
}

fn told(sent: &[Sent]) -> Vec<String> {
    let told = |one: &Sent| {
        let json = one.json();
        assert_eq!(json["routing_key"], ROUTING);
        let action = json["event_action"].as_str().unwrap_or("change");
        let key = json["dedup_key"].as_str().unwrap_or_default();
        format!("{} {action} {}", one.path, key.rsplit('/').next().unwrap())
    };
    sent.iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pagerduty_gets_an_alert_and_its_end_under_one_key() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "key", ROUTING);
    // The second call of a delivery fails once: the first is not made again.
    let receiver = Receiver::start(|number| match number {
        1 => status(429, "slow down"),
        _ => takes(number),
    })
    .await;
    let telling = Telling::start(dir.path(), &pagerduty(&receiver)).await;
    telling.keep(&[event("a", RolloutStarted), event("a", WaveOpened)]).await;
    telling.keep(&[event("a", RolloutHalted)]).await;
    let sent = receiver.wait(5).await;
    assert_eq!(
        told(&sent),
        [
            "/v2/enqueue resolve approval",
            "/v2/enqueue resolve expired",
            "/v2/enqueue resolve expired",
            "/v2/enqueue resolve held",
            "/v2/enqueue trigger halted",
        ]
    );
    telling.until(|tally| tally.waiting == 0).await;
    telling.keep(&[event("a", RolloutRolledBack)]).await;
    let sent = receiver.wait(9).await;
    assert_eq!(
        told(&sent[5..]),
        [
            "/v2/enqueue resolve held",
            "/v2/enqueue resolve halted",
            "/v2/enqueue resolve failed",
            "/v2/change/enqueue change ",
        ]
    );
    let key = |one: &Sent| one.json()["dedup_key"].as_str().unwrap().to_owned();
    assert_eq!(key(&sent[4]), key(&sent[6]), "recovery ends what the halt began");
    assert_eq!(sent[8].json()["payload"]["summary"], "a: rollout-rolled-back");
    telling.stop().await;
}

/// As after a start: it is told what happened meanwhile, and nobody is got out of bed for it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_for_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "key", ROUTING);
    let receiver = Receiver::start(takes).await;
    let telling = Telling::start(dir.path(), &pagerduty(&receiver)).await;
    telling
        .keep(&[event("a", RolloutHalted), event("b", RolloutComplete), event("c", RolloutHalted)])
        .await;
    telling.until(|tally| tally.delivered == 3 && tally.waiting == 0).await;
    let told = told(&receiver.sent());
    let of = |what: &str| told.iter().filter(|told| told.contains(what)).count();
    assert_eq!(of("trigger halted"), 1, "the newest alone: {told:?}");
    assert_eq!(of("resolve halted"), 1, "{told:?}");
    assert_eq!(of("/change/"), 2, "the one that is over, and its end: {told:?}");
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_used_is_told_at_the_start_and_keeps_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(takes).await;
    let config = format!("{}{}", webhook(&receiver, ""), pagerduty(&receiver));
    let telling = Telling::start(dir.path(), &config).await;
    let mute = || {
        let counts = telling.office.counts();
        ["bot", "pager"].map(|name| counts[&name.parse().unwrap()].is_mute)
    };
    let told = async {
        while mute() != [false, true] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, told).await.expect("before anything is to be sent");
    let ControlReply::Receivers(list) = telling.office.list().await.unwrap() else { panic!() };
    let faults: Vec<_> = list.iter().map(|one| one.fault.clone()).collect();
    assert_eq!(faults[0], None);
    assert!(faults[1].as_ref().unwrap().contains("cannot read its secret"), "{faults:?}");
    telling.keep(&[event("a", RolloutStarted)]).await;
    assert_eq!(kinds(&receiver.wait(1).await), ["rollout-started"]);
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_alert_is_not_given_up_with_age() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "key", ROUTING);
    // Down until the coordinator is started anew.
    let receiver = Receiver::start(|number| match number {
        0 => status(503, "down"),
        _ => takes(number),
    })
    .await;
    let config = pagerduty(&receiver);
    let telling = Telling::start(dir.path(), &config).await;
    telling.keep(&[event("a", RolloutHalted), event("a", HostFailed)]).await;
    telling.keep(&[event("a", RolloutRolledBack)]).await;
    telling.until(|tally| tally.fault.is_some() && tally.waiting == 3).await;
    let pager = "pager".parse().unwrap();
    for (delivery, _) in telling.store.receiver_progress(&pager).await.unwrap().waiting {
        telling.store.delivery_begun(&delivery.id, 9_999).await.unwrap();
    }
    telling.kill().await;
    let telling = Telling::start(dir.path(), &config).await;
    // The halt is an alert, and ends another one; a host that failed ends none.
    telling.until(|tally| (tally.dropped, tally.delivered) == (1, 2)).await;
    let told = told(&receiver.sent());
    assert!(told.contains(&"/v2/enqueue resolve halted".to_owned()), "{told:?}");
    assert!(!told.contains(&"/v2/enqueue trigger failed".to_owned()), "{told:?}");
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_keeps_no_other_waiting() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    secret(dir.path(), "dead", SIGNING);
    let receiver = Receiver::start(takes).await;
    // It accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let config = format!(
        "[[notify]]\nname = \"dead\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"dead\"\n{}",
        webhook(&receiver, "")
    );
    let telling = Telling::start(dir.path(), &config).await;
    // At once: who is being waited for takes nothing meanwhile.
    telling.keep(&["a", "b", "a", "b", "a", "b"].map(|rollout| event(rollout, WaveOpened))).await;
    assert_eq!(receiver.wait(6).await.len(), 6);
    let dead = || async { telling.store.receivers().await.unwrap().remove(1) };
    assert_eq!(
        (dead().await.name.as_str(), dead().await.delivered, dead().await.waiting),
        ("dead", 0, 6)
    );
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_used_is_told_and_a_new_one_counts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(takes).await;
    let telling = Telling::start(dir.path(), &webhook(&receiver, "")).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    telling.until(|tally| tally.fault.as_ref().is_some_and(|it| it.contains("No such file"))).await;
    let findings = telling.office.findings().await.unwrap();
    assert_eq!(findings.len(), 1);
    let found = &findings[0].what;
    assert!(found.starts_with("receiver bot is not told (1 wait, 0 dropped so far): "), "{found}");
    secret(dir.path(), "bot", SIGNING);
    receiver.wait(1).await.iter().for_each(verify);
    telling.until(|tally| tally.fault.is_none()).await;
    assert_eq!(telling.office.findings().await.unwrap(), []);
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_being_mended_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    // Its secret was changed on one side, then it was not there for a moment.
    let receiver = Receiver::start(|number| match number {
        0 => status(401, "another secret"),
        1 => status(404, "deploying"),
        _ => takes(number),
    })
    .await;
    let telling = Telling::start(dir.path(), &webhook(&receiver, "")).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    telling.until(|tally| (tally.delivered, tally.dropped) == (1, 0)).await;
    let counts = telling.office.counts()[&"bot".parse().unwrap()];
    assert_eq!((counts.delivered, counts.failed, counts.dropped), (1, 2, 0));
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_asks_for_is_waited_for_and_attempts_outlive_the_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(|_| {
        let mut busy = status(429, "later");
        busy.headers_mut().insert("retry-after", "1800".parse().unwrap());
        busy
    })
    .await;
    let config = webhook(&receiver, "");
    let telling = Telling::start(dir.path(), &config).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    let soon = member::clock::unix().plus_s(1_700);
    telling.until(|tally| tally.next_try.is_some_and(|next| next > soon)).await;
    telling.kill().await;
    let telling = Telling::start(dir.path(), &config).await;
    let waiting = telling.store.receiver_progress(&"bot".parse().unwrap()).await.unwrap().waiting;
    let attempts: Vec<_> = waiting.iter().map(|(delivery, _)| delivery.attempts).collect();
    assert_eq!((attempts, receiver.sent().len()), (vec![1], 1));
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_very_much_that_happens_only_so_much_is_taken_at_a_time() {
    use coordinator::notify::queue::WAITING_MAX;
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(|_| status(503, "down")).await;
    let telling = Telling::start(dir.path(), &webhook(&receiver, "")).await;
    // Not a multiple of what is read at a time.
    let many: Vec<_> = (0..WAITING_MAX + 50).map(|_| event("a", WaveOpened)).collect();
    telling.keep(&many).await;
    telling.until(|tally| tally.waiting == WAITING_MAX as u64).await;
    let progress = telling.store.receiver_progress(&"bot".parse().unwrap()).await.unwrap();
    assert_eq!((progress.waiting.len(), progress.cursor), (WAITING_MAX, WAITING_MAX as u64));
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_tested_with_a_message_of_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    secret(dir.path(), "key", ROUTING);
    let (bot, pager) = (Receiver::start(takes).await, Receiver::start(takes).await);
    let gone = Receiver::start(takes).await;
    secret(dir.path(), "chat", &gone.url("/services/T0/B0/s3cret0123456789"));
    drop(gone);
    let chat = "[[notify]]\nname = \"chat\"\nkind = \"slack\"\nurl_file = \"chat\"\n";
    let config = format!("{}{}{chat}", webhook(&bot, ""), pagerduty(&pager));
    let telling = Telling::start(dir.path(), &config).await;
    let test = async |name: &str| {
        telling.office.test(&name.parse().unwrap(), &"ada".parse().unwrap()).await
    };
    let taken =
        ControlReply::Notified { taken: true, answer: "it has taken the message".to_owned() };
    assert_eq!(test("bot").await.unwrap(), taken);
    assert_eq!(test("pager").await.unwrap(), taken);
    let sent = bot.sent();
    verify(&sent[0]);
    assert_eq!(sent[0].json()["type"], "notification.test");
    assert!(sent[0].json()["data"]["text"].as_str().unwrap().contains("ada asked for this"));
    let told = told(&pager.sent());
    assert_eq!(told, ["/v2/enqueue trigger test", "/v2/enqueue resolve test"]);
    let ControlReply::Notified { taken, answer } = test("chat").await.unwrap() else { panic!() };
    assert_eq!((taken, answer.as_str()), (false, "it refuses connections"));
    let refused = test("nobody").await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.next.as_str()),
        (RefusedKind::NotFound, "there are bot, chat, pager")
    );
    let ControlReply::Receivers(list) = telling.office.list().await.unwrap() else { panic!() };
    let names: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.to.as_str())).collect();
    let (bot, pager) = (bot.url(""), pager.url(""));
    assert_eq!(names, [("bot", bot.as_str()), ("pager", pager.as_str()), ("chat", "")]);
    assert!(list.iter().all(|one| one.delivered == 0), "a test is no delivery");
    telling.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let receiver = Receiver::start(|_| status(500, &"x".repeat(1 << 20))).await;
    let telling = Telling::start(dir.path(), &webhook(&receiver, "")).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    // Of what is too long to be read, nothing is told but its status.
    telling.until(|tally| tally.fault.as_deref() == Some("it answers 500")).await;
    telling.stop().await;
}
