//! The filter beside the real chitchat: what kills one, and what honest ones say.

use std::sync::Mutex;

use chitchat::transport::{ChannelTransport, Socket, Transport};
use chitchat::{ChitchatConfig, ChitchatId, Serializable as _};

use super::*;
use crate::common::DEADLINE;

fn bare_config(name: &str, addr: SocketAddr, seeds: &[SocketAddr]) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: ChitchatId::new(id(name).as_str(), BORN, addr),
        cluster_id: "fleet-a".to_owned(),
        gossip_interval: Duration::from_millis(20),
        listen_addr: addr,
        seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
        failure_detector_config: Default::default(),
        marked_for_deletion_grace_period: Duration::from_secs(3_600),
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}

/// A transport on which these messages come, in order, and nothing else.
struct Feed(Mutex<Vec<ChitchatMessage>>);

#[async_trait::async_trait]
impl Transport for Feed {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let mut messages: Vec<_> = std::mem::take(&mut *self.0.lock().unwrap());
        messages.reverse();
        Ok(Box::new(Self(Mutex::new(messages))))
    }
}

#[async_trait::async_trait]
impl Socket for Feed {
    async fn send(&mut self, _: SocketAddr, _: ChitchatMessage) -> anyhow::Result<()> {
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        let next = self.0.lock().unwrap().pop();
        match next {
            Some(message) => Ok((addr(2), message)),
            None => std::future::pending().await,
        }
    }
}

/// The kill packet is real: one SYN, one ACK, and a bare chitchat is gone. Behind the filter it is a
/// violation (see the table), and what the filter writes is never it.
#[tokio::test]
async fn r11_one_packet_kills_a_bare_chitchat_and_not_the_filter() {
    let read = |bytes: &[u8]| ChitchatMessage::deserialize(&mut &bytes[..]).unwrap();
    let hello = read(&encode(&syn(vec![heard(life("a"))])));
    let feed = Feed(Mutex::new(vec![hello, read(&kill_packet())]));
    let victim = bare_config("me", addr(1), &[]);
    let handle = chitchat::spawn_chitchat(victim, vec![], &feed).await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, handle.termination_watcher()).await;
    assert!(ended.expect("it ends").is_err(), "bare chitchat dies");

    let mut filter = filter();
    judge(&mut filter, &ack(vec![news(&life("a"), "a")])).unwrap();
    let judged = filter.judge(&kill_packet(), NOW_MS, Instant::now());
    assert_eq!(judged, Err(Violation::Deletes("a version without a value")));
}

/// What real chitchats say to each other passes whole, apart from digests before the first news.
#[tokio::test]
async fn r11_honest_chitchat_passes() {
    /// Records what goes over it.
    struct Tap(Box<dyn Socket>, tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

    #[async_trait::async_trait]
    impl Socket for Tap {
        async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
            let _ = self.1.send(message.serialize_to_vec());
            self.0.send(to, message).await
        }

        async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
            self.0.recv().await
        }
    }

    struct Tapped(ChannelTransport, tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

    #[async_trait::async_trait]
    impl Transport for Tapped {
        async fn open(&self, addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
            Ok(Box::new(Tap(self.0.open(addr).await?, self.1.clone())))
        }
    }

    let (tap, mut messages) = tokio::sync::mpsc::unbounded_channel();
    let transport = Tapped(ChannelTransport::default(), tap);
    let mut running = Vec::new();
    for (name, port) in [("a", 1), ("b", 2)] {
        let who = Incarnation { addr: addr(port), ..life(name) };
        let values = (1..=40).map(|version| {
            let name_of = format!("k/{version}");
            let says = "{\"epoch\":12,\"rollout\":\"".repeat(9);
            let written = written(&who, name, &name_of, version, &says);
            (name_of, written.text)
        });
        let config = bare_config(name, addr(port), &[addr(1), addr(2)]);
        let handle = chitchat::spawn_chitchat(config, values.collect(), &transport).await.unwrap();
        running.push(handle);
    }
    let mut filter = filter();
    let mut news_of = BTreeSet::new();
    for _ in 0..60 {
        let bytes = tokio::time::timeout(DEADLINE, messages.recv()).await.unwrap().unwrap();
        let sent = decode(&bytes).unwrap();
        let left = {
            let passed = filter.judge(&bytes, NOW_MS, Instant::now()).unwrap();
            decode(&passed.message).unwrap()
        };
        if let (
            Message::Ack { delta: sent } | Message::SynAck { delta: sent, .. },
            Message::Ack { delta: left } | Message::SynAck { delta: left, .. },
        ) = (&sent, &left)
        {
            assert_eq!(sent, left);
            news_of.extend(
                left.iter()
                    .filter(|news| news.values.len() == 40)
                    .map(|news| news.who.host.clone()),
            );
        }
        if news_of.len() == 2 && matches!(sent, Message::Syn { .. }) {
            assert_eq!(left, sent, "once both are known, digests pass too");
        }
    }
    assert_eq!(news_of.len(), 2, "both were heard in full");
}
