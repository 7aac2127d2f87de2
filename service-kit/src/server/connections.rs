//! The connections of a port: how many there may be, and how to end them.
//!
//! tonic closes a connection when its last call is over. When calls hang, that
//! is never, and tonic has no way to insist. So each connection here can be
//! cut: its next read or write fails, hyper gives it up, and the handlers of
//! its calls are dropped, as if the peer had gone.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::secured::Secured;
use crate::tls::Acceptor;

/// Connections that may be open at once; more wait in the kernel's queue.
const OPEN_MAX: usize = 1024;
/// How long a peer may take to begin to speak HTTP/2, on a connection that is
/// plain or has been secured. hyper would wait for ever, and not even leave when
/// it is asked to.
const BEGIN_MAX: Duration = Duration::from_secs(5);
/// How long to leave the listener alone after it failed. Out of file
/// descriptors it fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of one port.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    cut: watch::Receiver<()>,
}

impl Connections {
    /// Connections that are cut when `cut` changes, or its sender is gone.
    pub(super) fn new(cut: watch::Receiver<()>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(OPEN_MAX)),
            cut,
        }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        OPEN_MAX - self.places.available_permits()
    }

    /// The next connection, when there is a place for it.
    pub(super) async fn accept(&self, listener: &TcpListener) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .expect("nobody closes this semaphore");
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // Answers are small: waiting to fill a packet would only delay them.
        // It fails when the peer has gone again, which the first read will say.
        let _ = stream.set_nodelay(true);
        let mut cut = self.cut.clone();
        let cut: CutSignal = Box::pin(async move {
            let _ = cut.changed().await;
        });
        (
            Connection {
                stream,
                cut: Some(cut),
                _place: place,
            },
            peer,
        )
    }

    /// The connections to `listener`, for tonic, once they have begun to speak
    /// HTTP/2; secured by `tls`, when there is one. Those that have not come so
    /// far do not hold up the others, and hold a place meanwhile.
    pub(super) fn incoming(
        self,
        listener: TcpListener,
        tls: Option<Acceptor>,
    ) -> impl Stream<Item = io::Result<Secured>> {
        stream::unfold((self, listener), async |(connections, listener)| {
            let accepted = connections.accept(&listener).await;
            Some((accepted, (connections, listener)))
        })
        .map(move |(connection, peer)| begin(connection, peer, tls.clone()))
        .buffer_unordered(OPEN_MAX)
        .filter_map(async |secured| secured.map(Ok))
    }
}

/// Nothing, when the peer cannot be let in, or does not want to.
async fn begin(connection: Connection, peer: SocketAddr, tls: Option<Acceptor>) -> Option<Secured> {
    let secured = match tls {
        None => Ok(Secured::plain(connection)),
        Some(tls) => tls.accept(connection).await.map(Secured::tls),
    };
    let begun = match secured {
        Ok(mut secured) => match timeout(BEGIN_MAX, secured.begin()).await {
            Ok(begun) => begun.map(|begun| begun.then_some(secured)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing")),
        },
        Err(error) => Err(error),
    };
    begun.unwrap_or_else(|error| {
        tracing::info!(%peer, %error, "a connection was not let in");
        None
    })
}

type CutSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that can be cut, and holds a place while it is open.
pub(super) struct Connection {
    stream: TcpStream,
    /// `None` once it has been cut.
    cut: Option<CutSignal>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// The stream, unless it has been cut; wakes the task when it is.
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            self.cut = None;
        }
        match self.cut {
            Some(_) => Ok(Pin::new(&mut self.stream)),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_a_read_that_waits_and_frees_the_place() {
        let (cut, cut_seen) = watch::channel(());
        let connections = Connections::new(cut_seen);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut connection, _) = connections.accept(&listener).await;
        assert_eq!(connections.open(), 1);

        let reading = tokio::spawn(async move {
            let read = connection.read_u8().await.unwrap_err();
            let written = connection.write_u8(0).await.unwrap_err();
            (read.kind(), written.kind())
        });
        tokio::task::yield_now().await;
        cut.send(()).unwrap();

        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(reading.await.unwrap(), (aborted, aborted));
        assert_eq!(connections.open(), 0);
    }
}
