//! Pages for people and an interface for scripts, over HTTPS.
//!
//! | module | what |
//! |---|---|
//! | `tls` | the certificate |
//! | `door` | which connections come in, and how long each may stay |
//! | `gate` | who asks, and what keeps strangers and other sites out |
//! | `enter` | signing in and out |
//! | `sight` | what the pages show, looked up once for all of them |
//! | `live` | what changes on a page that is open |
//! | `page` | the frame around every page, and what pages have in common |
//! | `pages` | the pages |
//! | `charts` | pictures on them |
//! | `assets` | style and scripts, carried in the program |
//! | `api` | the same for scripts |
//!
//! Pages are made here and work without scripts; a small script library brings changes into a page that is
//! open. Nothing is loaded from anywhere else. The port is not part of what a rollout needs: where it is
//! not to be had, or a page fails, the coordinator goes on and says so.

mod api;
mod assets;
mod charts;
mod door;
mod enter;
mod gate;
mod live;
mod page;
mod pages;
mod sight;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use member::chain;
use net::{NetError, Places};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{self, Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::desk::{Desk, blocking};
use crate::token::TokenId;
use door::Caller;
use gate::Gate;
use sight::Sight;
use tls::Tls;

pub use tls::Certificate;
pub(crate) use tls::{called, on_disk};

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest reason that is typed or given for an act, in bytes: it is signed with the name of who asks
/// before it, and both together must fit a statement.
const REASON_BYTES_MAX: usize = 400;
/// How often a port or a certificate that is not to be had is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How long nobody is taken in after taking somebody in failed: as a rule there are too many open files.
const BREATH: Duration = Duration::from_millis(100);
/// How often the certificate is looked at: whether it has changed, or ends soon.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(600);

/// What every request is answered from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) desk: Arc<Desk>,
    sight: Sight,
    boards: pages::Boards,
    gate: Arc<Gate>,
    /// Places for streams of changes.
    watchers: Places<TokenId>,
    /// Ends streams of changes, which would not end by themselves.
    stop: CancellationToken,
}

/// Serves until `stop`.
pub(crate) async fn serve(desk: Arc<Desk>, stop: CancellationToken) -> Result<(), NetError> {
    let web = Web {
        sight: Sight::new(desk.view.clone()),
        boards: pages::Boards::default(),
        gate: Arc::new(Gate::default()),
        watchers: live::places(),
        desk,
        stop: stop.clone(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listen(web) => {}
    }
    Ok(())
}

async fn listen(web: Web) {
    let mut said = false;
    loop {
        match open(&web).await {
            Ok((listener, tls)) => {
                let (address, url) = (web.desk.config.https, &web.desk.https_url);
                info!(%address, url, fingerprint = tls.certificate.fingerprint, "pages at");
                return take_in(&web, listener, tls).await;
            }
            Err(cause) => {
                if !std::mem::replace(&mut said, true) {
                    error!(cause, "no pages; tried again every {} s", AGAIN_EVERY.as_secs());
                }
                sleep(AGAIN_EVERY).await;
            }
        }
    }
}

async fn open(web: &Web) -> Result<(TcpListener, Tls), String> {
    let tls = certificate(web).await?;
    let address = web.desk.config.https;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    Ok((listener, tls))
}

/// The certificate as it is on disk now.
async fn certificate(web: &Web) -> Result<Tls, String> {
    let config = web.desk.config.clone();
    let tls = blocking("read the certificate of the pages", move || tls::load(&config)).await;
    let tls = tls.map_err(|refused| refused.reason)?.map_err(|error| chain(&error))?;
    web.desk.https_certificate.send_replace(Some(tls.certificate.clone()));
    Ok(tls)
}

/// Takes connections in. The door stays open whatever becomes of the certificate's files.
async fn take_in(web: &Web, listener: TcpListener, mut tls: Tls) {
    let places = door::places();
    let router = router(web.clone());
    let mut look = time::interval_at(Instant::now() + CERTIFICATE_EVERY, CERTIFICATE_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = look.tick() => tls = renewed(certificate(web).await, tls, &mut said),
            taken = listener.accept() => match taken {
                Ok((stream, address)) => {
                    let caller = Caller::from(address.ip());
                    // Whoever has its share already is sent away, and nobody waits behind it.
                    let Some(place) = places.try_take(&caller) else { continue };
                    let talk = talk(stream, caller, tls.clone(), router.clone(), web.stop.clone());
                    tokio::spawn(async move {
                        talk.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    debug!(%error, "a connection was not taken");
                    sleep(BREATH).await;
                }
            }
        }
    }
}

async fn talk(
    stream: TcpStream,
    caller: Caller,
    tls: Tls,
    router: Router,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = door::converse(stream, caller, &tls, router) => {}
    }
}

/// What connections are taken with from now on. A certificate that does not read now, as one does that is
/// just being replaced, leaves the one in place that works. `said`: the trouble that was told last.
fn renewed(read: Result<Tls, String>, now: Tls, said: &mut String) -> Tls {
    match read {
        Ok(new) => {
            if new.certificate != now.certificate {
                info!(
                    fingerprint = new.certificate.fingerprint,
                    "the pages have another certificate"
                );
            }
            said.clear();
            new
        }
        Err(cause) => {
            if *said != cause {
                warn!(cause, "the pages keep their certificate: what is on disk does not do");
                *said = cause;
            }
            now
        }
    }
}

fn router(web: Web) -> Router {
    Router::new()
        .merge(pages::router())
        .merge(enter::router())
        .merge(api::router())
        .route("/live/{*page}", get(live::follow))
        .route("/assets/{name}", get(assets::get))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(web.clone(), gate::guard))
        .with_state(web)
}
