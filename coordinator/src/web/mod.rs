//! Pages for people and an interface for scripts, over HTTPS.
//!
//! | module | what |
//! |---|---|
//! | `tls` | the certificate |
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
mod enter;
mod gate;
mod live;
mod page;
mod pages;
mod sight;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use member::chain;
use net::NetError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::desk::{Desk, blocking};
use gate::Gate;
use sight::Sight;
use tls::Tls;

/// Connections at a time; others wait to be let in.
const CONNECTIONS_MAX: usize = 512;
/// Requests of one connection that are under way at a time.
const STREAMS_MAX: u32 = 32;
/// How long a handshake may take, and the head of a request.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How often a port or a certificate that is not to be had is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How often the certificate is looked at: whether it has changed, or ends soon.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(3_600);

/// What every request is answered from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) desk: Arc<Desk>,
    sight: Sight,
    boards: pages::Boards,
    gate: Arc<Gate>,
    /// Ends streams of changes, which would not end by themselves.
    stop: CancellationToken,
}

/// Serves until `stop`.
pub(crate) async fn serve(desk: Arc<Desk>, stop: CancellationToken) -> Result<(), NetError> {
    let web = Web {
        sight: Sight::new(desk.view.clone()),
        boards: pages::Boards::default(),
        gate: Arc::new(Gate::default()),
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
                info!(%address, url, fingerprint = tls.fingerprint, "pages at");
                said = false;
                accept(&web, listener, tls).await;
            }
            Err(cause) if !said => {
                error!(cause, "no pages; tried again every {} s", AGAIN_EVERY.as_secs());
                said = true;
                sleep(AGAIN_EVERY).await;
            }
            Err(_) => sleep(AGAIN_EVERY).await,
        }
    }
}

async fn open(web: &Web) -> Result<(TcpListener, Tls), String> {
    let config = web.desk.config.clone();
    let tls = blocking("read the certificate of the pages", move || tls::load(&config)).await;
    let tls = tls.map_err(|refused| refused.reason)?.map_err(|error| chain(&error))?;
    let address = web.desk.config.https;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    web.desk.https_fingerprint.send_replace(tls.fingerprint.clone());
    Ok((listener, tls))
}

/// Takes connections in until it is time to look at the certificate again.
async fn accept(web: &Web, listener: TcpListener, tls: Tls) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = router(web.clone());
    let taking = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Who asks is counted by address.
                    let router = router.clone().layer(Extension(peer));
                    let tls = tls.clone();
                    let stop = web.stop.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = converse(stream, tls, router) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    debug!(%error, "a connection was not taken");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    // Connections that are open go on; only the door is shut for a moment.
    let _ = timeout(CERTIFICATE_EVERY, taking).await;
}

async fn converse(stream: TcpStream, tls: Tls, router: Router) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HELLO_WITHIN, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "no TLS"),
        Err(_) => return debug!("a visitor said nothing"),
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HELLO_WITHIN);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(HELLO_WITHIN)
        .keep_alive_timeout(HELLO_WITHIN);
    let service = TowerToHyperService::new(router);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!(error, "a visitor left");
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
