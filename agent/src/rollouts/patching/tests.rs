//! A host, a peer that has what was released, and somebody who tells the host of patches.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use durable::RealDisk;
use ed25519_dalek::SigningKey;
use net::{
    Alpn, Connection, Directory, Endpoint, Gossip, GossipConfig, Handler, Handlers, Identity,
    certificate, frame,
};
use pack::{artifact_ref, make_patch, pack};
use proto::statement::{
    Health, Host, KeyEntry, Payload as _, Release, Role, RoleKeys, Root, Run, Source,
};
use proto::wire::{Found, PATCHES_BYTES_MAX, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use proto::{HostId, KeyId, PublicKey, UnixTime};
use swarm::{Company, Ledger, Store, Swarm};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::activate::{Paths, stage};
use crate::rollouts::bring::unless_awaited;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);
const HOST: u8 = 1;
const PEER: u8 = 2;
const TELLER: u8 = 3;
const ROOT: u8 = 4;
const ADMIT: u8 = 5;
const HOST_CA: u8 = 6;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn host_id(number: u8) -> HostId {
    HostId::of(&PublicKey::of(&key(number)))
}

fn root() -> Root {
    let numbers = [(ROOT, Role::Root), (ADMIT, Role::Admit), (HOST_CA, Role::HostCa)];
    let id = |number| KeyId::of(&PublicKey::of(&key(number)));
    let owner = || "ada".parse().unwrap();
    let entry = |number| KeyEntry { key: PublicKey::of(&key(number)), owner: owner() };
    let held = |number| RoleKeys { keys: vec![id(number)], threshold: 1 };
    Root {
        fleet: "test-00000000".parse().unwrap(),
        version: 1,
        expires: UnixTime(1 << 40),
        keys: numbers.iter().map(|(number, _)| (id(*number), entry(*number))).collect(),
        roles: numbers.into_iter().map(|(number, role)| (role, held(number))).collect(),
        environments: BTreeMap::new(),
        critical: Vec::new(),
    }
}

fn host(number: u8) -> Host {
    Host {
        fleet: root().fleet,
        id: host_id(number),
        key: PublicKey::of(&key(number)),
        name: format!("host-{number}").parse().unwrap(),
        labels: BTreeMap::new(),
        issued: UnixTime(1),
        critical: Vec::new(),
    }
}

fn release(artifact: ArtifactRef) -> Release {
    Release {
        fleet: root().fleet,
        service: "web".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        artifact,
        source: Source::default(),
        created: UnixTime(1),
        run: Run {
            start: "true".to_owned(),
            stop: "true".to_owned(),
            timeout_s: 1,
            ..Run::default()
        },
        health: Health::default(),
        critical: Vec::new(),
    }
}

/// A member; stops when dropped.
struct Node {
    swarm: Swarm,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Node {
    /// `teller`: answers instead of the swarm.
    fn start(number: u8, dir: &Path, seeds: Vec<SocketAddr>, teller: Option<Teller>) -> Self {
        let mut genesis = root().envelope();
        genesis.sign(&key(ROOT));
        let store = Store::open(Arc::new(RealDisk), dir).unwrap();
        let clock = member::clock::unix;
        let ledger = Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), clock).unwrap();
        let der = certificate::issue(&key(HOST_CA), &host(number), clock(), 1).unwrap();
        let directory = Directory::new(root());
        [HOST, PEER, TELLER].into_iter().for_each(|number| directory.add_host(host(number)));
        let identity = Identity::host(key(number), der).unwrap();
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, directory).unwrap();
        let address = endpoint.local_addr().unwrap();
        let stop = CancellationToken::new();
        let config = GossipConfig {
            fleet: root().fleet,
            key: key(number),
            advertise: address,
            seeds,
            interval: Duration::from_millis(50),
            verify: Arc::new(|_: &[u8]| None),
            envelope: Arc::new(|_: &HostId| None),
        };
        let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
        let swarm = Swarm::new(&endpoint, ledger, gossip.clone());
        let handler = teller.map_or_else(|| swarm.handler(), |teller| Arc::new(teller) as _);
        let handlers = Handlers::new().on(Alpn::Swarm, handler).on(Alpn::Gossip, gossip.handler());
        let (running, until, and_until) = (swarm.clone(), stop.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        tokio::spawn(async move { endpoint.serve(handlers, and_until).await.unwrap() });
        Self { swarm, address, _stop: stop.drop_guard() }
    }
}

/// Tells of patches, and has nothing.
struct Teller(Vec<PatchOffer>);

#[async_trait]
impl Handler for Teller {
    async fn connection(&self, connection: Connection) {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, DEADLINE).await;
            // Who asked may be gone.
            let _ = match request {
                Ok(SwarmRequest::Patches { .. }) => {
                    frame::send(&mut send, &self.0, PATCHES_BYTES_MAX, DEADLINE).await
                }
                _ => frame::send(&mut send, &Found::No, 64, DEADLINE).await,
            };
            let _ = send.finish();
        }
    }
}

/// Something packed.
struct Packed {
    dir: PathBuf,
    manifest: Arc<Manifest>,
    data: PathBuf,
}

impl Packed {
    fn of(dir: PathBuf) -> Self {
        let data = dir.with_extension("data");
        let manifest = pack(&dir, &mut fs::File::create(&data).unwrap(), &mut |_| {}).unwrap();
        Self { dir, manifest: manifest.into(), data }
    }

    fn about(&self) -> ArtifactRef {
        artifact_ref(&self.manifest)
    }

    fn give(&self, store: &Store) {
        store.add_whole(&self.about(), &self.manifest.to_bytes(), &self.data).unwrap();
    }

    fn begin(&self, store: &Store) {
        store.begin(&self.about().id, &self.manifest.to_bytes()).unwrap();
    }
}

/// Two versions of a tree, each of three pieces. What differs is in the last of them.
struct Versions {
    dir: TempDir,
    old: Packed,
    new: Packed,
}

/// A version that has `word` somewhere, and a name as long as all others.
fn version(dir: &Path, name: &str, word: [u8; 4]) -> Packed {
    let tree = dir.join(name);
    fs::create_dir(&tree).unwrap();
    let mut content = vec![0; 600_000];
    noise_to(&mut content);
    fs::write(tree.join("a"), &content).unwrap();
    content.truncate(80_000);
    content[40_000..40_004].copy_from_slice(&word);
    fs::write(tree.join("b"), &content).unwrap();
    Packed::of(tree)
}

/// Fills with what does not compress, always the same.
fn noise_to(content: &mut [u8]) {
    for (chunk, number) in content.chunks_mut(32).zip(0u32..) {
        chunk.copy_from_slice(&Digest::of(&number.to_le_bytes()).as_bytes()[..chunk.len()]);
    }
}

impl Versions {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) =
            (version(dir.path(), "old", *b"1111"), version(dir.path(), "new", *b"2222"));
        Self { dir, old, new }
    }

    /// The patch from the old to the new one, made of the files in `content`.
    fn patch(&self, content: &Path) -> Packed {
        let (from, to) = (self.old.about().id, self.new.about().id);
        let dir = self.dir.path().join("patch");
        fs::create_dir(&dir).unwrap();
        let mut out = fs::File::create(dir.join(PatchName { from, to }.to_string())).unwrap();
        make_patch(
            (&self.old.manifest, &mut Archive::of_tree(&self.old.manifest, &self.old.dir)),
            (&self.new.manifest, &mut Archive::of_tree(&self.new.manifest, content)),
            u64::MAX,
            &mut out,
            &mut |_, _| ControlFlow::Continue(()),
        )
        .unwrap();
        Packed::of(dir)
    }

    fn offer(&self, patch: &Packed) -> PatchOffer {
        PatchOffer { from: self.old.about().id, patch: patch.about() }
    }

    /// A host with the old version, which it is told of a patch to the new one; who has that is another.
    async fn ground(&self, offer: PatchOffer) -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let teller =
            Node::start(TELLER, &dir.path().join("teller"), vec![], Some(Teller(vec![offer])));
        let seeds = vec![teller.address];
        let peer = Node::start(PEER, &dir.path().join("peer"), seeds.clone(), None);
        let host = Node::start(HOST, &dir.path().join("host"), seeds, None);
        self.new.give(peer.swarm.store());
        self.old.give(host.swarm.store());
        let paths = Paths::new(&dir.path().join("srv"), &"web".parse().unwrap());
        let (id, manifest) = (Digest::of(b"old"), self.old.manifest.to_bytes());
        let store = host.swarm.store();
        let mut piece = |index| read_piece(store, &self.old.about().id, index);
        stage(&paths, &id, &release(self.old.about()), &manifest, &[], &mut piece).unwrap();
        let bringing = Bringing {
            swarm: host.swarm.clone(),
            kept: dir.path().join("host"),
            paths,
            id: Digest::of(b"new"),
            release: release(self.new.about()),
            company: Company { origin: Some(host_id(TELLER)), fetchers: vec![host_id(PEER)] },
        };
        let asks = || host.swarm.patches_to(self.new.about().id, &bringing.company);
        timeout(DEADLINE, async { while asks().await.is_empty() {} }).await.unwrap();
        Ground { bringing: Arc::new(bringing), host, peer, _teller: teller, _dir: dir }
    }
}

struct Ground {
    bringing: Arc<Bringing>,
    host: Node,
    peer: Node,
    _teller: Node,
    _dir: TempDir,
}

impl Ground {
    async fn bring(&self, versions: &Versions) {
        timeout(DEADLINE, self.bringing.by_less()).await.unwrap().unwrap();
        let tree = self.bringing.paths.release(&self.bringing.id);
        pack::verify_tree(&versions.new.manifest, &tree).unwrap();
    }

    fn store(&self) -> &Store {
        self.host.swarm.store()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_a_patch_brings_a_release_and_is_given_to_others() {
    let versions = Versions::new();
    let patch = versions.patch(&versions.new.dir);
    let offer = versions.offer(&patch);
    let ground = versions.ground(offer).await;
    patch.give(ground.peer.swarm.store());
    ground.bring(&versions).await;
    assert_eq!(ground.store().patches_to(&versions.new.about().id), [offer]);
    assert!(ground.store().pieces(&versions.new.about().id).is_err(), "it came by the patch");
}

/// Of this host's own: what runs, and what is being brought.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_who_offers_what_is_no_patch_deletes_nothing() {
    let versions = Versions::new();
    for (offered, bytes) in [(&versions.old, None), (&versions.new, Some(1))] {
        let mut offer = versions.offer(offered);
        // Or it would not be shorter than what it leads to.
        offer.patch.bytes = bytes.unwrap_or(offer.patch.bytes - 1);
        let ground = versions.ground(offer).await;
        let (store, new) = (ground.store(), &versions.new);
        new.begin(store);
        let first = fs::read(&new.data).unwrap()[..new.manifest.pieces[0].bytes as usize].to_vec();
        store.write_piece(&new.about().id, 0, &first).unwrap();
        ground.bring(&versions).await;
        assert!(store.has_whole(&versions.old.about().id));
        let here = store.pieces(&new.about().id).unwrap();
        assert_eq!(here.iter().collect::<Vec<_>>(), [0, 2], "what was here, and what differs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_patch_of_other_content_is_not_given_on_and_the_pieces_are_fetched() {
    let versions = Versions::new();
    let wrong = version(versions.dir.path(), "wrong", *b"3333");
    let patch = versions.patch(&wrong.dir);
    let ground = versions.ground(versions.offer(&patch)).await;
    patch.give(ground.peer.swarm.store());
    ground.bring(&versions).await;
    assert_eq!(ground.store().patches(), []);
    assert!(ground.store().pieces(&versions.new.about().id).unwrap().contains(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_of_a_patch_that_never_comes_nothing_stays() {
    let versions = Versions::new();
    let patch = versions.patch(&versions.new.dir);
    let ground = versions.ground(versions.offer(&patch)).await;
    patch.begin(ground.peer.swarm.store());
    let bringing = ground.bringing.clone();
    let task = tokio::spawn(async move { bringing.by_less().await });
    let mut changes = ground.store().changes();
    let store = ground.store().clone();
    let begun = changes.wait_for(|_| store.patches().len() == 1);
    timeout(DEADLINE, begun).await.unwrap().unwrap();
    task.abort();
    let gone = changes.wait_for(|_| store.patches().is_empty());
    timeout(DEADLINE, gone).await.unwrap().unwrap();
}

/// As a rollout does that wants another release: what it asked for before neither goes on nor stands in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_release_that_is_not_wanted_any_more_is_not_fetched_on() {
    let versions = Versions::new();
    let ground = versions.ground(versions.offer(&versions.old)).await;
    let (id, peer, store) =
        (versions.new.about().id, ground.peer.swarm.store().clone(), ground.store());
    // Until it is given all of it again it has nothing to give.
    peer.remove_artifact(&id).unwrap();
    versions.new.begin(&peer);
    let running = async |count: usize| {
        let is = async {
            while ground.host.swarm.fetched().running != count || store.pieces(&id).is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, is).await.expect("as many fetches");
    };
    let bringing = ground.bringing.clone();
    let task = tokio::spawn(async move { bringing.by_less().await });
    running(1).await;
    task.abort();
    running(0).await;
    versions.new.give(&peer);
    let other = version(versions.dir.path(), "other", *b"4444");
    other.give(&peer);
    let fetch = ground.host.swarm.fetch(other.about(), ground.bringing.company.clone());
    timeout(DEADLINE, fetch.done()).await.unwrap().unwrap();
    assert!(!store.pieces(&id).unwrap().contains(2), "of another one all has come meanwhile");
    assert!(!ground.bringing.paths.release(&ground.bringing.id).exists());
    ground.bring(&versions).await;
}

/// Nor is what is brought kept waiting by what is only kept, of which nothing comes: it may be the way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_what_is_fetched_to_be_kept_gives_way_to_what_is_brought() {
    let versions = Versions::new();
    let ground = versions.ground(versions.offer(&versions.old)).await;
    let (about, swarm) = (versions.new.about(), ground.host.swarm.clone());
    ground.peer.swarm.store().remove_artifact(&about.id).unwrap();
    let fetch = swarm.fetch(about, ground.bringing.company.clone());
    let mut progress = fetch.progress();
    let keeping = tokio::spawn(async move { unless_awaited(&swarm, &about.id, fetch).await });
    let begun = progress.wait_for(Progress::has_begun);
    drop(timeout(DEADLINE, begun).await.unwrap().unwrap());
    let bringing = ground.bringing.clone();
    let task = tokio::spawn(async move { bringing.by_less().await });
    let gave_way = timeout(DEADLINE, keeping).await.expect("it waits for ever").unwrap();
    assert_eq!(gave_way.unwrap_err().to_string(), "it is fetched for somebody else, too");
    versions.new.give(ground.peer.swarm.store());
    timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
}

#[test]
fn r4_what_may_be_a_patch() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = [b"from", b"to_-"].map(|name| Digest::of(name));
    let name = PatchName { from, to };
    let judge = |file: &str, content: &[u8], more: &[&str]| {
        let tree = tempfile::tempdir_in(&dir).unwrap();
        fs::write(tree.path().join(file), content).unwrap();
        more.iter().for_each(|file| fs::write(tree.path().join(file), "").unwrap());
        let manifest = pack(tree.path(), &mut Vec::new(), &mut |_| {}).unwrap();
        check_patch(&manifest, name).is_ok()
    };
    let mut noise = vec![0; 1 << 20];
    noise_to(&mut noise);
    let right = name.to_string();
    let other = PatchName { from: to, to }.to_string();
    let elsewhere = PatchName { from, to: from }.to_string();
    assert!(judge(&right, &noise, &[]));
    assert!(judge(&right, &noise[..100], &[]), "as short as they get");
    assert!(!judge(&other, &noise, &[]), "from another artifact");
    assert!(!judge(&elsewhere, &noise, &[]), "to another artifact");
    assert!(!judge("web", &noise, &[]), "a release");
    assert!(!judge(&right, &noise, &["more"]), "two files");
    // Each piece is a few bytes long: they could come one by one for days.
    assert!(!judge(&right, &vec![0; 4 << 20], &[]), "what no patch is made of");
}

/// Who comes so far in each second, as a fetch tells it.
async fn comes(still_s: impl Fn(u64) -> u64, whole_s: u64, bytes: u64) -> (Result<()>, u64) {
    let (tell, progress) = watch::channel(Progress::default());
    let begun = Instant::now();
    let fetch = async {
        for second in 0..whole_s {
            sleep(Duration::from_secs(1)).await;
            tell.send_modify(|progress| progress.still_s = still_s(second));
        }
        Ok(())
    };
    let ended = patient(fetch, progress, bytes).await;
    (ended, begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn r28_a_patch_is_waited_for_as_long_as_it_comes_and_its_length_allows() {
    let (ended, took_s) = comes(|_| 0, 20, 1 << 20).await;
    assert!(ended.is_ok() && took_s == 20);
    let (ended, took_s) = comes(|second| second % 9, 20, 1 << 20).await;
    assert!(ended.is_ok() && took_s == 20, "slowly");
    let (ended, took_s) = comes(|second| second, 20, 1 << 20).await;
    assert_eq!(
        (ended.unwrap_err().to_string().as_str(), took_s),
        ("it does not come: nothing comes", 11)
    );
    // One after the other, and never all.
    for (bytes, within_s) in [(0, 10), (1 << 20, 26), (16 << 20, 266), (u64::MAX, 300)] {
        let (ended, took_s) = comes(|_| 0, 1_000_000, bytes).await;
        assert_eq!(
            (ended.unwrap_err().to_string().as_str(), took_s),
            ("it comes too slowly", within_s)
        );
    }
}
