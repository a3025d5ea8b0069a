//! Gossip that something else carries: behind the same border.

use std::sync::Mutex;

use super::*;
use crate::common::until;

type Ends = Arc<Mutex<BTreeMap<SocketAddr, Gossip>>>;

/// A member on a network where every message arrives at once.
fn member(fleet: &Fleet, ends: &Ends, name: &'static str, port: u16) -> Gossip {
    let config = GossipConfig {
        fleet: fleet.id(),
        key: key(name),
        advertise: addr(port),
        seeds: vec![addr(1)],
        interval: Duration::from_secs(1),
        verify: Arc::new(|_| None),
        envelope: Arc::new(|_| None),
    };
    let directory = fleet.directory();
    ["a", "b"].iter().for_each(|host| directory.add_host(fleet.host(host)));
    let others = ends.clone();
    let carry: Carrier = Arc::new(move |to, message| {
        let there = others.lock().unwrap().get(&to).cloned();
        if let Some(there) = there {
            there.receive(&id(name), addr(port), &message);
        }
    });
    let gossip = Gossip::simulated(carry, directory, config, CancellationToken::new());
    ends.lock().unwrap().insert(addr(port), gossip.clone());
    gossip
}

fn says(gossip: &Gossip, name: &str, text: &str) -> bool {
    let members = gossip.members().borrow().clone();
    let said = members.iter().find(|member| member.host == id(name));
    said.and_then(|member| member.values.get("h")).is_some_and(|said| said == text)
}

#[tokio::test(start_paused = true)]
async fn r11_simulated_gossip_passes_the_same_border() {
    let (fleet, ends) = (Fleet::new("fleet-a"), Ends::default());
    let (a, b) = (member(&fleet, &ends, "a", 1), member(&fleet, &ends, "b", 2));
    a.set("h", "of a").unwrap();
    b.set("h", "of b").unwrap();
    until("both hear each other", || says(&a, "b", "of b") && says(&b, "a", "of a")).await;

    // What kills a bare chitchat, and what another one signed.
    b.receive(&id("a"), addr(1), &kill_packet());
    b.receive(&id("a"), addr(1), &encode(&ack(vec![news(&life("a"), "b")])));
    assert_eq!(b.counts().violations, 2);
    a.set("h", "more of a").unwrap();
    until("it gossips on", || says(&b, "a", "more of a")).await;

    let dropped = b.counts().dropped;
    (0..100).for_each(|_| b.receive(&id("a"), addr(1), &encode(&syn(vec![]))));
    assert!(b.counts().dropped > dropped, "a flood is dropped unread");
}
