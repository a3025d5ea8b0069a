//! One life of a host's agent: what gossip and ledger say goes into the core, its effects are carried
//! out in order, as the agent itself does; the service is simulated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use net::{Gossip, Member};
use proto::certificate::Claim;
use proto::receipt::{Cause, Receipt, SignedReceipt};
use proto::record::{HOST, receipt_key};
use proto::statement::{Action, Rollout};
use proto::trust::Chain;
use proto::{Digest, HostId};
use rollout::host::{Effect, Host, Input};
use rollout::peers::{Others, Records};
use rollout::receipts::Receipts;
use swarm::Ledger;
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::check::Word;
use super::fleet::scope;
use super::world::{World, lock};

/// How long to wait at most before looking at the clock again, and at what others say of this host.
const IDLE: Duration = Duration::from_secs(5);
/// Answers of steps waiting to be taken in.
const ANSWERS_MAX: usize = 64;

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    /// Between two effects.
    Crashed,
}

/// What an agent starts with.
pub(super) struct Start {
    pub(super) number: usize,
    pub(super) key: SigningKey,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) ledger: Ledger,
    pub(super) gossip: Gossip,
}

pub(super) struct Agent {
    start: Start,
    core: Host,
    receipts: Option<Receipts>,
    records: Records,
    /// When what others say of this host was read last.
    peers_read: Option<Instant>,
    /// The words of each host that were read last: production reads all of them again and again,
    /// and finds out that they are old.
    read: BTreeMap<HostId, String>,
    answers: mpsc::Sender<Input>,
    crashed: bool,
}

impl Agent {
    /// Lives until `stop`, or until a crash.
    pub(super) async fn live(start: Start, stop: CancellationToken) -> End {
        let (answers, inbox) = mpsc::channel(ANSWERS_MAX);
        let core = serde_json::from_slice(&lock(&start.world).machines[start.number].record);
        let agent = Self {
            start,
            core: core.expect("a record is whole"),
            receipts: None,
            records: Records::default(),
            peers_read: None,
            read: BTreeMap::new(),
            answers,
            crashed: false,
        };
        agent.run(inbox, stop).await
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Input>, stop: CancellationToken) -> End {
        let mut statements = self.start.ledger.events();
        let mut members = self.start.gossip.members();
        let mut effects = Vec::new();
        self.core.resume(self.now(), &mut effects);
        self.carry_out(effects);
        self.read_statements();
        while !self.crashed {
            let wait = self.wait();
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                Some(input) = inbox.recv() => self.take(input),
                () = time::sleep(wait) => self.take(Input::Tick),
                Ok(()) = statements.changed() => self.read_statements(),
                Ok(()) = members.changed() => self.read_members(&mut members),
            }
        }
        End::Crashed
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.start.world)
    }

    fn now(&self) -> rollout::Now {
        let now = self.world().machine_now(self.start.number);
        rollout::Now { unix: self.start.ledger.chain().believed(now.unix), ..now }
    }

    fn wait(&self) -> Duration {
        let left_ms = self.core.next_deadline().map(|at| at.saturating_sub(self.now().boot_ms));
        left_ms.map_or(IDLE, |left_ms| Duration::from_millis(left_ms).min(IDLE))
    }

    fn take(&mut self, input: Input) {
        if self.crashed {
            return;
        }
        if let Input::Unhealthy { .. } = input {
            self.world().sickens(self.start.number);
        }
        let mut effects = Vec::new();
        self.core.handle(self.now(), input, &mut effects);
        // What was decided before a restart is finished after it: not decided here.
        for effect in &effects {
            match effect {
                Effect::Activate { to, .. } => {
                    self.world().check_start(self.start.number, &self.core, *to);
                }
                Effect::Revert { .. } => self.world().check_back(self.start.number, &self.core),
                _ => {}
            }
        }
        self.carry_out(effects);
    }

    // --- inputs ---

    fn read_statements(&mut self) {
        let chain = self.start.ledger.chain();
        let Some(id) = chain.head(&scope()).map(|head| head.rollout) else { return };
        let rollout = chain.rollout(&id).expect("heads are known");
        // What stops it comes first: after a restart the rollout itself may start something.
        self.read_orders(&chain, id);
        if self.receipts.as_ref().is_none_or(|receipts| receipts.id() != id) {
            let rollout = Arc::new(Rollout::clone(rollout));
            self.receipts = Some(Receipts::new(id, rollout.clone(), self.now().boot_ms));
            self.read.clear();
            self.world().took(self.start.number);
            self.take(Input::Rollout { id, rollout });
        }
        self.read_orders(&chain, id);
        let members = self.start.gossip.members().borrow().clone();
        self.offer(&members);
        self.read_peers(&members);
    }

    fn read_orders(&mut self, chain: &Chain, id: Digest) {
        if chain.revocation(self.core.me(), &scope().env).is_some() {
            self.world().tells(self.start.number, Word::Removal);
            self.take(Input::Removed);
        }
        if let Some((order, directive)) = chain.directive(&id) {
            self.world().tells(self.start.number, Word::Order(order));
            if directive.action == Action::Abort {
                self.world().knows_of_stop(self.start.number);
            }
            self.take(Input::Directive(directive.clone()));
        }
        let waves = 0..self.start.ledger.newest_wave(&id).map_or(0, |newest| newest + 1);
        for claim in [Claim::Complete, Claim::Halt].into_iter().chain(waves.map(Claim::Wave)) {
            if self.start.ledger.proof_of(&id, claim).is_some() {
                if claim == Claim::Halt {
                    self.world().tells(self.start.number, Word::Halt);
                }
                self.take(Input::Certificate { rollout: id, claim });
            }
        }
        let hosts: BTreeSet<_> = chain.excuses(&id).into_values().collect();
        if !hosts.is_empty() {
            self.take(Input::Excused { rollout: id, hosts });
        }
    }

    fn read_members(&mut self, members: &mut watch::Receiver<Arc<Vec<Member>>>) {
        let members = members.borrow_and_update().clone();
        self.offer(&members);
        if self.peers_read.is_none_or(|read| read.elapsed() >= IDLE) {
            self.read_peers(&members);
        }
    }

    fn read_peers(&mut self, members: &[Member]) {
        let (now, chain) = (self.now(), self.start.ledger.chain());
        let others = Others::of(self.core.me(), &chain, &self.start.ledger.hosts());
        let live = members.iter().filter(|member| member.alive && member.host != *self.core.me());
        let records = live.filter_map(|member| Some((&member.host, member.values.get(HOST)?)));
        self.records.observe(now, records);
        self.peers_read = Some(Instant::now());
        self.take(Input::Peers(self.records.judge(now, chain.heads_digest(), &others)));
    }

    fn offer(&mut self, members: &[Member]) {
        let boot_ms = self.now().boot_ms;
        let Some(receipts) = &mut self.receipts else { return };
        let mut news = Vec::new();
        for member in members {
            let Some(text) = member.values.get(&receipt_key(0)) else { continue };
            if self.read.get(&member.host) == Some(text) {
                continue;
            }
            self.read.insert(member.host.clone(), text.clone());
            let Ok(signed) = SignedReceipt::from_text(text) else { continue };
            if let Ok(Some(receipt)) = receipts.offer(boot_ms, signed) {
                news.push((member.host.clone(), receipt.clone()));
            }
        }
        for (host, receipt) in news {
            if host != *self.core.me() {
                self.world().check_told(self.start.number, &host, &receipt);
            }
            self.take(Input::Receipt(receipt));
        }
    }

    // --- effects ---

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if self.world().interrupts(self.start.number) {
                self.crashed = true;
                return;
            }
            self.carry_out_one(effect);
        }
        self.world().note_core(self.start.number, &self.core);
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let number = self.start.number;
        match effect {
            Effect::Persist => {
                let record = serde_json::to_vec(&self.core).expect("records serialize");
                self.world().machines[number].record = record;
            }
            Effect::Publish(receipt) => self.publish(&receipt),
            Effect::Fetch { release } => {
                let delay_ms = self.world().chance(number, 50, 1_500);
                self.answer_in(delay_ms, Input::Fetched { release });
            }
            Effect::Activate { attempt, from, to, .. } => self.activate(attempt, from, to),
            Effect::Revert { attempt, to } => {
                let delay_ms = self.world().chance(number, 200, 1_000);
                self.world().machines[number].service.up = false;
                self.serve_in(delay_ms, to, Input::Reverted { attempt });
            }
            Effect::Commit { attempt } => {
                let service = &mut self.world().machines[number].service;
                service.journal.take_if(|journal| journal.attempt == attempt);
            }
            Effect::Certify { rollout, claim } => self.certify(rollout, claim),
        }
    }

    fn publish(&self, receipt: &Receipt) {
        self.world().check_signed(self.start.number, receipt);
        let text = receipt.sign(&self.start.key).to_text();
        self.start.gossip.set(&receipt_key(0), &text).expect("receipts are gossiped");
    }

    fn certify(&mut self, rollout: Digest, claim: Claim) {
        let excuses = self.start.ledger.chain().excuses(&rollout);
        let receipts = self.receipts.as_ref().filter(|receipts| receipts.id() == rollout);
        let certificate = receipts.and_then(|receipts| receipts.certificate(claim, &excuses));
        // The core counts what it saw before it was restarted, too.
        let Some(certificate) = certificate else { return };
        match self.start.ledger.certify(&certificate.to_bytes()) {
            Err(error) if error.is_final() => self.take(Input::Unprovable { rollout, claim }),
            made => drop(made.expect("what the receipts prove is verified")),
        }
    }

    // --- the service ---

    fn activate(&self, attempt: u64, from: Option<Digest>, to: Digest) {
        let number = self.start.number;
        let mut world = self.world();
        let current = world.machines[number].service.current;
        if let Some(answer) = world.machines[number].service.answer_again(attempt, to) {
            drop(world);
            return self.serve_in(10, current, answer);
        }
        if current == Some(to) && world.machines[number].service.up {
            world.machines[number].service.begin(attempt, from, to);
            drop(world);
            return self.serve_in(20, current, Input::Activated { attempt });
        }
        world.check_stop(number);
        let service = &mut world.machines[number].service;
        service.begin(attempt, from, to);
        service.up = false;
        let down_ms = world.chance(number, 300, 1_500);
        let never_ready = world.never_ready(number, to);
        drop(world);
        if never_ready {
            let note = "healthz answered 500 three times".to_owned();
            let cause = Cause::Release;
            let answer = Input::ActivationFailed { attempt, reverted: true, cause, note };
            self.world().ran(number, to);
            return self.serve_in(down_ms + 1_000, from, answer);
        }
        self.serve_in(down_ms, Some(to), Input::Activated { attempt });
    }

    /// After a step has taken its time, `current` serves and the core is told. A crash ends the step.
    fn serve_in(&self, delay_ms: u64, current: Option<Digest>, answer: Input) {
        let (world, number) = (self.start.world.clone(), self.start.number);
        let (life, answers) = (lock(&world).machines[number].life, self.answers.clone());
        tokio::spawn(async move {
            time::sleep(Duration::from_millis(delay_ms)).await;
            if !lock(&world).serve(number, life, current, &answer) {
                return;
            }
            let activated = match answer {
                Input::Activated { attempt } => Some(attempt),
                _ => None,
            };
            // Its agent may have crashed.
            let _ = answers.send(answer).await;
            let Some(attempt) = activated else { return };
            let Some(delay_ms) = lock(&world).turns_bad_ms(number) else { return };
            time::sleep(Duration::from_millis(delay_ms)).await;
            let note = "errors in 40 of 100 requests".to_owned();
            let _ = answers.send(Input::Unhealthy { attempt, note }).await;
        });
    }

    fn answer_in(&self, delay_ms: u64, answer: Input) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            time::sleep(Duration::from_millis(delay_ms)).await;
            // Its agent may have crashed.
            let _ = answers.send(answer).await;
        });
    }
}
