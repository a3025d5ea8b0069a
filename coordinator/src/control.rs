//! The `control` protocol: one request per stream, answered by whoever may ask it.
//!
//! Requests under way are bounded apart for people and for hosts, and for each of them, so that no
//! host and no single key, however it behaves, keeps an operator out. Whatever is refused is refused
//! in words, and logged.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use member::{chain, clock};
use net::certificate::{self, LIFE_DAYS};
use net::frame::{self, FrameError};
use net::{CloseCode, Connection, Handler, Peer, Places, RecvStream, SendStream};
use proto::dsse::Envelope;
use proto::id::HostId;
use proto::statement::ENVELOPE_BYTES_MAX;
use proto::trust::verify;
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest, Refused, RefusedKind};
use rollout::fleet::{only_reads, refused};
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::audit::{Act, act_of};
use crate::authority::{self, Asker};
use crate::desk::{Desk, blocking, out_of_order};
use crate::publish::{UPLOADS_MAX, Upload};

/// Requests of people under way, and of one key of theirs; a frame may have [`CONTROL_BYTES_MAX`].
const PEOPLE_MAX: usize = 8;
const PER_PERSON_MAX: usize = 4;
/// Requests of hosts under way, and of one host.
const HOSTS_MAX: usize = 8;
const PER_HOST_MAX: usize = 2;
/// Requests under way on one connection.
const PER_CONNECTION_MAX: usize = 8;
/// Longest frame of a host, in bytes: a statement to hand in.
const HOST_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 1_024;
/// How long a request may take to arrive, and an answer to be taken.
const FRAME_WITHIN: Duration = Duration::from_secs(30);
/// How long a piece may take to arrive.
const PIECE_WITHIN: Duration = Duration::from_secs(60);

/// Answers requests.
pub struct Control {
    desk: Arc<Desk>,
    people: Places,
    hosts: Places,
}

#[async_trait]
impl Handler for Shared {
    async fn connection(&self, connection: Connection) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = requests.join_next(), if !requests.is_empty() => {
                    if let Err(error) = ended {
                        error!(%error, "a request's handler failed");
                    }
                }
                stream = connection.accept_bi(), if requests.len() < PER_CONNECTION_MAX => {
                    let Ok((send, recv)) = stream else { break };
                    let (control, peer) = (self.0.clone(), connection.peer().clone());
                    requests.spawn(async move {
                        if let Err(error) = control.serve(&peer, send, recv).await {
                            debug!(%peer, error = chain(&error), "request not answered");
                        }
                    });
                }
            }
        }
        // What is under way ends with its streams; an upload keeps what has come.
        while requests.join_next().await.is_some() {}
        connection.close(CloseCode::Done, "");
    }
}

/// The handler of the protocol.
#[derive(Clone)]
pub struct Shared(Arc<Control>);

impl Shared {
    pub fn new(desk: Arc<Desk>) -> Self {
        Self(Arc::new(Control {
            desk,
            people: Places::new(PEOPLE_MAX, PER_PERSON_MAX),
            hosts: Places::new(HOSTS_MAX, PER_HOST_MAX),
        }))
    }
}

impl Control {
    async fn serve(
        &self,
        peer: &Peer,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), FrameError> {
        let (places, bytes_max) = match peer {
            Peer::Person(_) => (&self.people, CONTROL_BYTES_MAX),
            Peer::Host(_) | Peer::Coordinator(_) | Peer::Anonymous => (&self.hosts, HOST_BYTES_MAX),
        };
        let place = places.take(peer).await;
        let answer = match frame::recv_json(&mut recv, bytes_max, FRAME_WITHIN).await {
            Ok(request) => match (self.allow(peer, &request), request) {
                (Err(refused), _) => Err(refused),
                (Ok(asker), ControlRequest::Publish { release, manifest }) => {
                    drop(place);
                    let streams = (&mut send, &mut recv);
                    self.publish(asker, release, manifest, streams).await?
                }
                (Ok(asker), request) => self.answer(asker, request).await,
            },
            Err(FrameError::Codec(error)) => Err(Refused::not_understood(&error)),
            Err(error) => return Err(error),
        };
        let reply = answer.unwrap_or_else(|refused| {
            info!(%peer, kind = ?refused.kind, reason = refused.reason, "request refused");
            ControlReply::Refused(refused)
        });
        match frame::send_json(&mut send, &reply, CONTROL_BYTES_MAX, FRAME_WITHIN).await {
            Err(FrameError::Codec(error)) => {
                let refused = Refused {
                    kind: RefusedKind::Invalid,
                    reason: format!("the answer does not fit: {error}"),
                    next: String::new(),
                };
                let reply = ControlReply::Refused(refused);
                frame::send_json(&mut send, &reply, CONTROL_BYTES_MAX, FRAME_WITHIN).await?;
            }
            sent => sent?,
        }
        // An error says that the connection is gone: nobody waits for the end of the stream.
        let _ = send.finish();
        Ok(())
    }

    fn allow(&self, peer: &Peer, request: &ControlRequest) -> Result<Asker, Refused> {
        authority::allow(self.desk.member.ledger.chain().root(), peer, request)
    }

    async fn answer(&self, asker: Asker, request: ControlRequest) -> Result<ControlReply, Refused> {
        match (request, asker) {
            (request, _) if only_reads(&request) => {
                let view = self.desk.view.clone();
                let answer = blocking("answer", move || view.answer(&request)).await?;
                Ok(answer.expect("every request that only reads has an answer"))
            }
            (ControlRequest::Submit { envelope }, asker) => self.submit(asker, envelope).await,
            (ControlRequest::Renew, Asker::Host(host)) => self.renew(&host),
            (ControlRequest::TokenCreate { uses, ttl_s, labels }, Asker::Person { owner, .. }) => {
                self.desk.token_create(owner, uses, ttl_s, &labels).await
            }
            (ControlRequest::Checkup, _) => self.desk.checkup().await,
            (ControlRequest::Events(query), _) => self.desk.events(&query).await,
            (ControlRequest::Dora { scope, days }, _) => self.desk.dora(scope, days).await,
            (ControlRequest::TokenList, _) => self.desk.token_list().await,
            (ControlRequest::TokenRevoke { token }, Asker::Person { owner, .. }) => {
                self.desk.token_revoke(&owner, &token).await
            }
            (ControlRequest::AccessCreate { kind, role, ttl_s }, Asker::Person { key, owner }) => {
                self.desk.access_create((key, owner), kind, role, ttl_s).await
            }
            (ControlRequest::Draft { id }, _) => self.desk.draft(&id),
            (ControlRequest::AccessList, _) => self.desk.access_list().await,
            (ControlRequest::AccessRevoke { id }, Asker::Person { owner, .. }) => {
                self.desk.access_revoke(&owner, &id).await
            }
            (ControlRequest::Audit(query), _) => {
                let page = self.desk.audit(&query).await.map_err(|unknown| unknown.refused)?;
                Ok(ControlReply::Audit(Box::new(page)))
            }
            (ControlRequest::AuditMemory, _) => Err(Refused {
                kind: RefusedKind::NotHere,
                reason: "this is the coordinator: hosts remember its record".to_owned(),
                next: "ask a host".to_owned(),
            }),
            (ControlRequest::NotifyList, _) => self.desk.notify.list().await,
            (ControlRequest::NotifyTest { receiver }, Asker::Person { owner, .. }) => {
                self.desk.notify.test(&receiver, &owner).await
            }
            (ControlRequest::Disk { .. } | ControlRequest::Evidence { .. }, _) => Err(Refused {
                kind: RefusedKind::NotHere,
                reason: "this is the coordinator: it installs no release".to_owned(),
                next: "ask a host".to_owned(),
            }),
            (_, asker) => Err(Refused {
                kind: RefusedKind::Forbidden,
                reason: format!("{asker} may not ask this"),
                next: String::new(),
            }),
        }
    }

    fn renew(&self, id: &HostId) -> Result<ControlReply, Refused> {
        let host = self.desk.member.ledger.host(id).ok_or_else(|| Refused {
            kind: RefusedKind::NotFound,
            reason: format!("there is no statement about host {id} here"),
            next: "join with a token".to_owned(),
        })?;
        // Its connections are refused, too; this one may have been open already.
        if let Some(removal) = self.desk.member.ledger.chain().removal(&host) {
            return Err(Refused {
                kind: RefusedKind::Forbidden,
                reason: format!("host {id} was removed from the fleet: {}", removal.reason),
                next: "join anew with another key".to_owned(),
            });
        }
        let der = certificate::issue(&self.desk.host_ca_key, &host, clock::unix(), LIFE_DAYS)
            .map_err(|error| out_of_order("issue a certificate", &error))?;
        info!(host = %id, name = %host.name, "certificate renewed");
        Ok(ControlReply::Certificate { der })
    }

    // --- submit ---

    async fn submit(&self, asker: Asker, bytes: Vec<u8>) -> Result<ControlReply, Refused> {
        let _turn = self.desk.taking_in.lock().await;
        let desk = self.desk.clone();
        let (bytes, act) = blocking("judge a statement", move || {
            match member::refuse_submitted(&desk.member.ledger, &bytes) {
                Some(refused) => Err(refused),
                None => desk.judge_submitted(&asker, &bytes).map(|act| (bytes, act)),
            }
        })
        .await??;
        self.desk.admit(act, bytes).await
    }

    // --- publish ---

    /// The answer to a publish; the one that asks for pieces is sent on the way.
    async fn publish(
        &self,
        asker: Asker,
        release: Vec<u8>,
        manifest: Vec<u8>,
        (send, recv): (&mut SendStream, &mut RecvStream),
    ) -> Result<Result<ControlReply, Refused>, FrameError> {
        let Ok(_permit) = self.desk.uploads.try_acquire() else {
            return Ok(Err(Refused {
                kind: RefusedKind::Busy,
                reason: format!("{UPLOADS_MAX} uploads are under way"),
                next: "try again later".to_owned(),
            }));
        };
        let begun = Upload::begin(self.desk.clone(), asker, release, manifest).await;
        let (mut upload, pieces) = match begun {
            Ok(begun) => begun,
            Err(refused) => return Ok(Err(refused)),
        };
        let ask = ControlReply::Send { pieces: pieces.clone() };
        frame::send_json(send, &ask, CONTROL_BYTES_MAX, FRAME_WITHIN).await?;
        for piece in pieces {
            let bytes = frame::recv_bytes(recv, upload.bytes_of(piece), PIECE_WITHIN).await;
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    upload.pause().await;
                    return Err(error);
                }
            };
            if let Err(refused) = upload.keep(piece, bytes).await {
                upload.pause().await;
                return Ok(Err(refused));
            }
        }
        Ok(upload.finish().await.map(|id| ControlReply::Published { id }))
    }
}

impl Desk {
    /// What to record of a statement that was handed in; none if all of it is here already.
    fn judge_submitted(&self, asker: &Asker, bytes: &[u8]) -> Result<Option<Act>, Refused> {
        let chain = self.member.ledger.chain();
        let verified = verify(&chain, bytes, clock::unix()).map_err(|refusal| refused(&refusal))?;
        let stored = self.member.ledger.statement(&verified.id);
        let stored = stored.map_err(|error| out_of_order("read a statement", &error))?;
        let known = stored.and_then(|stored| Envelope::parse(&stored, usize::MAX).ok());
        let signed = |known: &Envelope| {
            let signatures = verified.envelope.signatures();
            signatures.keys().all(|key| known.signatures().contains_key(key))
        };
        if known.as_ref().is_some_and(signed) {
            return Ok(None);
        }
        let by = asker.to_string();
        Ok(Some(act_of(chain.root(), &verified.envelope, &verified.statement, "submit", &by)))
    }
}
