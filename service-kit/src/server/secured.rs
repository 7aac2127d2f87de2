//! A connection that is secured, or is not, and has begun to speak HTTP/2.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connections::Connection;

/// What every client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What tonic serves on.
pub(super) struct Secured {
    stream: Stream,
    /// What [`begin`](Self::begin) has read, and nobody else yet.
    begun: Vec<u8>,
}

/// Beneath TLS is a connection that can be cut, as any.
enum Stream {
    Plain(Connection),
    Tls(Box<TlsStream<Connection>>),
}

impl Secured {
    pub(super) fn plain(connection: Connection) -> Self {
        Self {
            stream: Stream::Plain(connection),
            begun: Vec::new(),
        }
    }

    pub(super) fn tls(stream: TlsStream<Connection>) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            begun: Vec::new(),
        }
    }

    /// Waits for the preface of HTTP/2, or for what cannot be one, which is for
    /// hyper to refuse; whoever reads next reads it too. False, when the peer has
    /// gone instead.
    pub(super) async fn begin(&mut self) -> io::Result<bool> {
        let mut begun = Vec::with_capacity(PREFACE.len());
        while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
            let more = (PREFACE.len() - begun.len()) as u64;
            if (&mut *self).take(more).read_buf(&mut begun).await? == 0 {
                return Ok(false);
            }
        }
        self.begun = begun;
        Ok(true)
    }
}

/// Does the same to whichever it is.
macro_rules! either {
    ($self:ident, $stream:ident => $does:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $does
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $does
            }
        }
    };
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            let fits = self.begun.len().min(buffer.remaining());
            buffer.put_slice(&self.begun[..fits]);
            self.begun.drain(..fits);
            return Poll::Ready(Ok(()));
        }
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Secured {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        match &self.stream {
            Stream::Plain(stream) => stream.connect_info(),
            Stream::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}
