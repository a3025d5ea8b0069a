//! Notifications of a whole coordinator: who may see and test receivers, and that events go out.

use coordinator::config::Config;
use coordinator::events::{Event, Kind};
use coordinator::store::Store;
use proto::UnixTime;
use proto::access::AccessRole;
use proto::checkup::{Grade, Topic};
use proto::wire::{ControlReply, ControlRequest, RefusedKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::fleet::*;
use crate::https::{Visitor, session};

/// A receiver that takes everything; what it is sent, a text each.
async fn receiver() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // What is sent ends with its type.
            while !(request.ends_with(b"\"}") && request.windows(8).any(|at| at == b"\"type\":\""))
            {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            if said.send(String::from_utf8(request).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_and_operators_see_and_test_who_is() {
    let (url, mut heard) = receiver().await;
    let mut fleet = Fleet::new(root(0));
    let path = fleet.dir.path().join("coordinator.toml");
    let text = format!(
        "advertise = \"127.0.0.1:7070\"\n[[notify]]\nname = \"bot\"\nkind = \"webhook\"\n\
         url = \"{url}\"\nsecret_file = \"bot\"\n"
    );
    fleet.config.notify = Config::parse(&path, &text).unwrap().notify;
    fleet.start_again().await;
    let ada = fleet.person(ADA).await;
    let test = ControlRequest::NotifyTest { receiver: name("bot") };
    let ControlReply::Notified { taken, answer } = ada.ask(&test).await else { panic!() };
    assert!(!taken && answer.contains("No such file"), "{answer}");
    let found = |findings: &[proto::checkup::Finding]| {
        let of = |one: &&proto::checkup::Finding| one.what.starts_with("receiver bot: ");
        findings.iter().find(of).map(|one| (one.topic, one.grade))
    };
    let ControlReply::Checkup(told) = ada.ask(&ControlRequest::Checkup).await else { panic!() };
    assert_eq!(found(&told), Some((Topic::Keys, Grade::Wrong)), "{told:?}");

    let list = async || match ada.ask(&ControlRequest::NotifyList).await {
        ControlReply::Receivers(list) => list,
        other => panic!("{other:?}"),
    };
    let fault = list().await[0].fault.clone().expect("it is told before anything is to be sent");
    assert!(fault.contains("No such file"), "{fault}");
    let visitor = Visitor::of(&fleet).await;
    for (who, role, is_told) in [(ADA, AccessRole::Operator, true), (CI, AccessRole::Viewer, false)]
    {
        let cookie = session(&visitor, &fleet.person(who).await, role).await;
        let page = visitor.send("GET", "/events", &[("cookie", &cookie)], b"").await.text();
        assert_eq!(page.contains("Receiver bot is not told: "), is_told, "{page}");
    }

    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    durable::create_secret(&fleet.dir.path().join("bot"), secret.as_bytes()).unwrap();
    let ControlReply::Notified { taken, answer } = ada.ask(&test).await else { panic!() };
    assert!(taken, "{answer}");
    // What the coordinator has to tell by itself may come before it.
    while !heard.recv().await.unwrap().contains("ada asked for this") {}
    for (who, request) in [(CI, &test), (CI, &ControlRequest::NotifyList), (BOB, &test)] {
        let refused = fleet.person(who).await.refused(request).await;
        assert_eq!(refused.kind, RefusedKind::Forbidden, "{refused:?}");
    }

    // Whoever writes events, they are found.
    let store = Store::open(&fleet.state("coordinator.db")).await.unwrap();
    let event = Event {
        at: now(),
        kind: Kind::HostLost,
        service: None,
        env: None,
        rollout: None,
        host: None,
        text: "host n7 is lost".to_owned(),
        detail: serde_json::json!({}),
    };
    store.events_keep(&[event]).await.unwrap();
    store.close().await;
    // The coordinator tells of things by itself, too.
    let told = loop {
        let told = tokio::time::timeout(WITHIN, heard.recv()).await.unwrap().unwrap();
        if told.contains("\"text\":\"host n7 is lost\"") {
            break told;
        }
    };
    assert!(told.contains("webhook-signature: v1,"), "{told}");
    let list = list().await;
    assert_eq!(list[0].fault, None);
    assert_eq!((list.len(), list[0].name.as_str(), list[0].kind.as_str()), (1, "bot", "webhook"));
    fleet.stop().await;
}

/// What is older than 400 days goes by itself, a little after the start.
#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_removed() {
    let mut fleet = Fleet::new(root(0));
    std::fs::create_dir(&fleet.config.state_dir).unwrap();
    let store = Store::open(&fleet.state("coordinator.db")).await.unwrap();
    let event = |days: u64| Event {
        at: UnixTime(now().0 - days * 86_400),
        kind: Kind::HostLost,
        service: None,
        env: None,
        rollout: None,
        host: None,
        text: "a host is lost".to_owned(),
        detail: serde_json::json!({}),
    };
    store.events_keep(&[event(402), event(390), event(0)]).await.unwrap();
    fleet.start_again().await;
    let trimmed = async {
        while store.events_after(0, 9).await.unwrap()[0].seq == 1 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, trimmed).await.unwrap();
    assert_eq!(store.events_after(0, 1).await.unwrap()[0].seq, 2);
    store.close().await;
    fleet.stop().await;
}
