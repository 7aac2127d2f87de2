//! One connection of the server.

use std::{
    collections::BTreeSet,
    future::pending,
    io,
    sync::{Arc, atomic::Ordering},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{
    fault::{Act, At, healthy},
    frames::{
        HEAD_LENGTH, Head, PREFACE, flag, frame, go_away, kind, reason, settings, window_update,
    },
    pours::Pours,
    server::Plan,
};

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Over,
}

/// One connection.
pub(crate) struct Connection {
    socket: TcpStream,
    plan: Arc<Plan>,
    read: BytesMut,
    /// Nothing is written any more.
    mute: bool,
    /// Requests that are here in part.
    begun: BTreeSet<u32>,
    /// The last stream to be answered, when it is about to close.
    last: Option<u32>,
    pours: Pours,
    /// Bytes of DATA since the client was last given room for more.
    taken: usize,
}

/// Half of the window that a client begins with.
const TAKEN_MAX: usize = 32 << 10;

impl Connection {
    pub(crate) fn new(socket: TcpStream, plan: Arc<Plan>) -> Self {
        Self {
            socket,
            plan,
            read: BytesMut::new(),
            mute: false,
            begun: BTreeSet::new(),
            last: None,
            pours: Pours::default(),
            taken: 0,
        }
    }

    pub(crate) async fn serve(mut self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        if self.misbehave(At::Accept, 0).await? == Some(Flow::Over) {
            return Ok(());
        }
        self.fill(PREFACE.len()).await?;
        self.read.advance(PREFACE.len());
        let (hello, payload) = self.frame().await?;
        match self.misbehave(At::Greeting, 0).await? {
            Some(Flow::Over) => return Ok(()),
            Some(Flow::On) => {}
            None => self.send(&settings(&[])).await?,
        }
        self.answer(hello, &payload).await?;
        loop {
            let (head, payload) = self.frame().await?;
            if self.answer(head, &payload).await? == Flow::Over {
                return Ok(());
            }
        }
    }

    /// Answers one frame of the client.
    async fn answer(&mut self, head: Head, payload: &[u8]) -> io::Result<Flow> {
        if head.kind == kind::DATA {
            self.taken += payload.len();
            if self.taken >= TAKEN_MAX {
                let room = u32::try_from(std::mem::take(&mut self.taken)).unwrap_or(u32::MAX);
                self.send(&window_update(0, room)).await?;
            }
        }
        match head.kind {
            kind::SETTINGS if !head.has(flag::ACK) => {
                self.pours.settings(payload);
                self.send(&frame(kind::SETTINGS, flag::ACK, 0, &[])).await?;
            }
            kind::PING if !head.has(flag::ACK) => {
                self.send(&frame(kind::PING, flag::ACK, 0, payload)).await?;
            }
            kind::RST_STREAM => {
                self.pours.stop(head.stream);
                let reason = payload.try_into().map_or(0, u32::from_be_bytes);
                let mut resets = self.plan.resets.lock().expect("nobody panics with it");
                resets.push((head.stream, reason));
            }
            kind::WINDOW_UPDATE => self.pours.widen(head.stream, payload),
            _ if self.last.is_some_and(|last| head.stream > last) => {}
            kind::HEADERS => {
                self.begun.insert(head.stream);
                self.plan.requests.fetch_add(1, Ordering::SeqCst);
                if self.misbehave(At::Headers, head.stream).await? == Some(Flow::Over) {
                    return Ok(Flow::Over);
                }
                return self.request(head).await;
            }
            kind::DATA => return self.request(head).await,
            _ => {}
        }
        Ok(Flow::On)
    }

    /// Answers a request, if this was the last of it.
    async fn request(&mut self, head: Head) -> io::Result<Flow> {
        if !head.has(flag::END_STREAM) {
            return Ok(Flow::On);
        }
        self.begun.remove(&head.stream);
        let flow = match self.misbehave(At::Request, head.stream).await? {
            Some(flow) => flow,
            None => {
                self.send(&healthy(head.stream)).await?;
                Flow::On
            }
        };
        if self
            .last
            .is_some_and(|last| self.begun.range(..=last).next().is_none())
        {
            self.fin().await?;
        }
        Ok(flow)
    }

    /// Does what is planned for this point, if anything is.
    async fn misbehave(&mut self, at: At, stream: u32) -> io::Result<Option<Flow>> {
        let Some(acts) = self.plan.acts(at, stream) else {
            return Ok(None);
        };
        for act in acts {
            match act {
                Act::Send(bytes) => self.send(&bytes).await?,
                Act::Trickle(bytes, every) => self.pours.trickle(stream, bytes, every),
                Act::Flood(payload) => self.pours.flood(stream, payload),
                Act::Spew(bytes) => self.pours.spew(stream, bytes),
                Act::Pause(time) => sleep(time).await,
                Act::Close => {
                    self.send(&go_away(stream, reason::NO_ERROR)).await?;
                    self.last = Some(stream);
                }
                Act::Fin => self.fin().await?,
                Act::Rst => {
                    self.socket.set_zero_linger()?;
                    return Ok(Some(Flow::Over));
                }
                Act::Mute => self.mute = true,
                Act::Deaf => pending().await,
            }
        }
        Ok(Some(Flow::On))
    }

    async fn fin(&mut self) -> io::Result<()> {
        self.mute = true;
        self.socket.shutdown().await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.mute {
            return Ok(());
        }
        self.socket.write_all(bytes).await
    }

    /// The next frame of the client.
    async fn frame(&mut self) -> io::Result<(Head, BytesMut)> {
        self.fill(HEAD_LENGTH).await?;
        let mut bytes = [0; HEAD_LENGTH];
        self.read.copy_to_slice(&mut bytes);
        let head = Head::of(&bytes);
        self.fill(head.length).await?;
        Ok((head, self.read.split_to(head.length)))
    }

    /// Waits until so many bytes are there; an error at the end of the stream.
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.read.len() < length {
            tokio::select! {
                biased;
                count = self.socket.read_buf(&mut self.read) => {
                    if count? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                bytes = self.pours.next() => {
                    self.socket.write_all(&bytes).await?;
                    self.plan.poured.fetch_add(bytes.len(), Ordering::SeqCst);
                }
            }
        }
        Ok(())
    }
}
