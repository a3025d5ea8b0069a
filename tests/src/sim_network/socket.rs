//! A UDP socket of the simulated network, as quinn wants one: it loses datagrams as often as told.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use turmoil::net::UdpSocket;

use crate::sim::Rng;

/// Longest datagram taken, in bytes: no path here is wider.
const DATAGRAM_BYTES_MAX: usize = 2_048;

type Datagram = io::Result<(Vec<u8>, SocketAddr)>;
type Receiving = Pin<Box<dyn Future<Output = Datagram> + Send>>;

pub(super) struct SimSocket {
    socket: Arc<UdpSocket>,
    /// What is waited for next.
    receiving: Mutex<Receiving>,
    /// Decides which datagrams are lost on their way out.
    chance: Mutex<Rng>,
    lost_permille: u64,
    /// Where others reach it.
    address: SocketAddr,
}

impl SimSocket {
    /// Binds the port of `address` on the simulated machine the caller runs on.
    pub(super) async fn bind(
        address: SocketAddr,
        lost_permille: u64,
        chance: Rng,
    ) -> io::Result<Arc<Self>> {
        let socket = Arc::new(UdpSocket::bind(("0.0.0.0", address.port())).await?);
        let receiving = Mutex::new(receive(socket.clone()));
        let chance = Mutex::new(chance);
        Ok(Arc::new(Self { socket, receiving, chance, lost_permille, address }))
    }

    fn is_lost(&self) -> bool {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        chance.permille(self.lost_permille)
    }
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

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_lost() {
            return Ok(());
        }
        // As on a real network, nobody is told that nobody is there.
        let _ = self.socket.try_send_to(transmit.contents, transmit.destination);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let Poll::Ready(received) = receiving.as_mut().poll(cx) else { return Poll::Pending };
        *receiving = receive(self.socket.clone());
        let (bytes, addr) = received?;
        let len = bytes.len().min(bufs[0].len());
        bufs[0][..len].copy_from_slice(&bytes[..len]);
        meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

/// The simulated network takes everything at once.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
