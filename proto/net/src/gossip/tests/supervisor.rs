//! The supervisor against the end of chitchat, and what may be set.

use super::*;
use crate::common::{loopback, serve_with, until};
use crate::{Alpn, Handlers};

fn gossip_config(fleet: &Fleet, name: &str, advertise: SocketAddr) -> GossipConfig {
    GossipConfig {
        fleet: fleet.id(),
        key: key(name),
        advertise,
        seeds: vec![],
        interval: Duration::from_millis(50),
        verify: Arc::new(|_| None),
        envelope: Arc::new(|_| None),
    }
}

#[tokio::test]
async fn r11_gossip_starts_anew_when_chitchat_ends() {
    let fleet = Fleet::new("fleet-a");
    let endpoint = Endpoint::bind(loopback(), fleet.identity("a"), fleet.directory()).unwrap();
    let addr = endpoint.local_addr().unwrap();
    let stop = CancellationToken::new();
    let gossip = Gossip::spawn(endpoint.clone(), gossip_config(&fleet, "a", addr), stop.clone());
    let _stop = serve_with(&endpoint, Handlers::new().on(Alpn::Gossip, gossip.handler()));
    gossip.set("h", "first").unwrap();
    let members = gossip.members();
    let me = || members.borrow().first().cloned();
    let says = |text: &str| me().is_some_and(|me| me.values.get("h").is_some_and(|v| v == text));
    until("it speaks", || says("first")).await;
    let born = me().unwrap().generation;
    for life in ["second", "third"] {
        gossip.shared.border().disconnect();
        gossip.set("h", life).unwrap();
        until("it speaks again", || says(life) && me().unwrap().generation > born).await;
    }
    assert!(me().unwrap().alive);
    stop.cancel();
}

#[tokio::test]
async fn r9_a_later_earlier_life_is_outlived_and_a_twin_is_not_fought() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    directory.add_host(fleet.host("a"));
    let endpoint = Endpoint::bind(loopback(), fleet.identity("a"), directory).unwrap();
    let here = endpoint.local_addr().unwrap();
    let stop = CancellationToken::new();
    let gossip = Gossip::spawn(endpoint, gossip_config(&fleet, "a", here), stop.clone());
    gossip.set("h", "x").unwrap();
    let members = gossip.members();
    let generation = || members.borrow().first().map_or(0, |me| me.generation);
    until("it speaks", || generation() > 0).await;
    let hear = |generation, addr| {
        let who = Incarnation { host: id("a"), generation, addr };
        let bytes = encode(&ack(vec![news(&who, "a")]));
        let border = gossip.shared.border();
        let judged = border.filter().judge(&bytes, crate::clock::unix_ms(), Instant::now());
        border.notice(judged.unwrap().younger_self);
    };
    let before = generation();
    hear(before + 60_000, here);
    until("a life after it", || generation() == before + 60_001).await;
    assert_eq!(*gossip.duplicate().borrow(), None, "that was this very host");
    hear(before + 70_000, addr(9));
    hear(before + 65_000, here);
    until("a life after the next one", || generation() == before + 65_001).await;
    assert_eq!(*gossip.duplicate().borrow(), None, "no heartbeats come from there");
    stop.cancel();
}

#[test]
fn r11_set_table() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let fleet = Fleet::new("fleet-a");
        let endpoint = Endpoint::bind(loopback(), fleet.identity("a"), fleet.directory()).unwrap();
        let stop = CancellationToken::new();
        let gossip = Gossip::spawn(endpoint, gossip_config(&fleet, "a", addr(1)), stop);
        let (longest, too_long) = ("x".repeat(VALUE_BYTES_MAX), "x".repeat(VALUE_BYTES_MAX + 1));
        let cases = [
            ("a value", "s/0", "x", None),
            ("the longest", "abcdefghijklmnop", &longest, None),
            ("empty", "h", "", None),
            ("too long", "h", &too_long, Some("gossip value of h has 421 bytes")),
            ("no key", "", "x", Some("gossip key \"\"")),
            ("long key", "abcdefghijklmnopq", "x", Some("gossip key")),
            ("strange key", "h\n", "x", Some("gossip key")),
        ];
        for (name, key, value, error) in cases {
            let got = gossip.set(key, value).err().map(|error| error.to_string());
            assert_eq!(got.is_some(), error.is_some(), "{name}: {got:?}");
            assert!(got.unwrap_or_default().contains(error.unwrap_or("")), "{name}");
        }
        for n in 3..KEYS_MAX {
            gossip.set(&format!("k/{n}"), "x").unwrap();
        }
        assert!(gossip.set("one-more", "x").is_err());
        gossip.set("h", "an old key again").unwrap();
    });
}
