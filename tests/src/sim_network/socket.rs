//! turmoil's UDP, as a wire: it loses datagrams as often as told.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use turmoil::net::UdpSocket;

use crate::sim::Rng;
use crate::sim_ground::socket::{DATAGRAM_BYTES_MAX, SimSocket, Wire};

type Datagram = io::Result<(Vec<u8>, SocketAddr)>;
type Receiving = Pin<Box<dyn Future<Output = Datagram> + Send>>;

pub(super) struct TurmoilWire {
    socket: Arc<UdpSocket>,
    /// What is waited for next.
    receiving: Mutex<Receiving>,
    /// Decides which datagrams are lost on their way out.
    chance: Mutex<Rng>,
    lost_permille: u64,
}

/// Binds the port of `address` on the simulated machine the caller runs on.
pub(super) async fn bind(
    address: SocketAddr,
    lost_permille: u64,
    chance: Rng,
) -> io::Result<Arc<SimSocket<TurmoilWire>>> {
    let socket = Arc::new(UdpSocket::bind(("0.0.0.0", address.port())).await?);
    let receiving = Mutex::new(receive(socket.clone()));
    let chance = Mutex::new(chance);
    let wire = TurmoilWire { socket, receiving, chance, lost_permille };
    Ok(Arc::new(SimSocket { wire, address }))
}

/// The next datagram.
fn receive(socket: Arc<UdpSocket>) -> Receiving {
    Box::pin(async move {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        let (length, from) = socket.recv_from(&mut bytes).await?;
        bytes.truncate(length);
        Ok((bytes, from))
    })
}

impl TurmoilWire {
    fn is_lost(&self) -> bool {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        chance.permille(self.lost_permille)
    }
}

impl Wire for TurmoilWire {
    fn send(&self, bytes: &[u8], to: SocketAddr) {
        if !self.is_lost() {
            // Whether somebody is there, nobody is told.
            let _ = self.socket.try_send_to(bytes, to);
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Datagram> {
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let Poll::Ready(received) = receiving.as_mut().poll(cx) else { return Poll::Pending };
        *receiving = receive(self.socket.clone());
        Poll::Ready(received)
    }
}
