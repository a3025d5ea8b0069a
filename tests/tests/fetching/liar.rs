//! A host whose key was stolen: it gossips like any other, says that it has all of whatever there is, and
//! gives noise.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::home::Home;
use async_trait::async_trait;
use fleet_tests::cluster::PATIENCE;
use member::{Membership, Seat};
use net::{Alpn, Connection, Handler, Handlers, Identity, Port, frame};
use proto::record::{self, ProgressRecord};
use proto::wire::{Found, Have, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Runs until it is dropped.
pub(super) struct Liar {
    _runtime: tokio::runtime::Runtime,
    _stop: DropGuard,
}

impl Liar {
    /// With the key and the certificate of the agent that kept its state there and spoke from there.
    pub(super) fn start(state_dir: &Path, address: Ipv4Addr) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let home = Home::new(state_dir);
        let (key, joined) = (home.key().unwrap(), home.joined().unwrap());
        let envelopes = joined.roots.into_iter().chain([joined.host]).map(String::into_bytes);
        let seat = Seat {
            store: state_dir.join("liar"),
            genesis: joined.root,
            envelopes: envelopes.collect(),
            key: key.clone(),
            identity: Identity::host(key, home.certificate().unwrap()).unwrap(),
            port: Port::Machine((address, 7070).into()),
            advertise: (address, 7070).into(),
            seeds: home.seeds().unwrap(),
            gossip_interval: Duration::from_millis(250),
            coordinator: false,
            services: None,
            version: "0.1.0".parse().unwrap(),
        };
        runtime.spawn(lie(seat, stop.clone()));
        Self { _runtime: runtime, _stop: stop.drop_guard() }
    }
}

async fn lie(seat: Seat, stop: CancellationToken) {
    let member = Membership::open(seat, stop.clone()).await.unwrap();
    let noise = Arc::new(Noise::default());
    let handlers =
        Handlers::new().on(Alpn::Gossip, member.gossip.handler()).on(Alpn::Swarm, noise.clone());
    // It knows what the fleet knows, and says what a member says.
    let (syncing, until) = (member.swarm.clone(), stop.clone());
    tokio::spawn(async move { syncing.run(until).await });
    tokio::spawn(boast(member.clone(), noise));
    member.endpoint.serve(handlers, stop).await.unwrap();
}

/// Says that it has whatever anybody announces.
async fn boast(member: Membership, noise: Arc<Noise>) {
    let mut members = member.gossip.members();
    while members.changed().await.is_ok() {
        let known = members.borrow_and_update().clone();
        let texts = known.iter().filter_map(|one| one.values.get(&record::progress_key(0)));
        let mut records = texts.filter_map(|text| record::from_text::<ProgressRecord>(text));
        let Some(announced) = records.find(|record| record.of > 0) else { continue };
        noise.pieces.store(announced.of, Ordering::Relaxed);
        let whole = ProgressRecord { pieces: announced.of, fetch: None, ..announced };
        member.gossip.set(&record::progress_key(7), &record::to_text(&whole)).unwrap();
    }
}

/// Answers about pieces.
#[derive(Default)]
struct Noise {
    /// How many the artifact has.
    pieces: AtomicU32,
}

#[async_trait]
impl Handler for Noise {
    async fn connection(&self, connection: Connection) {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, PATIENCE).await;
            let answered = match request {
                Ok(SwarmRequest::Have { .. }) => {
                    let all = swarm::Bits::all(self.pieces.load(Ordering::Relaxed));
                    let have = Have { bitmap: all.as_bytes().to_vec() };
                    frame::send(&mut send, &have, 1 << 16, PATIENCE).await
                }
                Ok(SwarmRequest::Piece { .. } | SwarmRequest::Sliced { .. }) => {
                    let noise = [7; 1_000];
                    let found = Found::Yes { bytes: noise.len() as u64 };
                    match frame::send(&mut send, &found, 64, PATIENCE).await {
                        Ok(()) => frame::send_bytes(&mut send, &noise, PATIENCE).await,
                        failed => failed,
                    }
                }
                _ => frame::send(&mut send, &Found::No, 64, PATIENCE).await,
            };
            // Who asked may be gone.
            if answered.is_ok() {
                let _ = send.finish();
            }
        }
    }
}
