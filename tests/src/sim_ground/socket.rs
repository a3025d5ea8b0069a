//! The end of a simulated network, as quinn wants a UDP socket.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Longest datagram taken, in bytes: no path here is wider.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 2_048;

/// What a simulated network does for one of its ends.
pub(crate) trait Wire: Send + Sync + 'static {
    /// Takes a datagram, and carries it or loses it: as on a real network, nobody is told.
    fn send(&self, bytes: &[u8], to: SocketAddr);

    /// The next datagram that has come, and who sent it.
    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>>;
}

pub(crate) struct SimSocket<W> {
    pub(crate) wire: W,
    /// Where others reach it.
    pub(crate) address: SocketAddr,
}

impl<W: Wire> AsyncUdpSocket for SimSocket<W> {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.wire.send(transmit.contents, transmit.destination);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(received) = self.wire.poll_receive(cx) else { return Poll::Pending };
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

impl<W> fmt::Debug for SimSocket<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

/// A simulated network takes everything at once.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
