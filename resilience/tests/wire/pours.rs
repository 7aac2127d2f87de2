//! What a connection writes without being asked.

use std::{future::pending, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::frames::{data, flag, setting};

/// The window of a connection, and of a stream, that nobody has changed.
const WINDOW: usize = 65_535;

/// One of a kind at most, each until its stream is reset.
pub(crate) struct Pours {
    trickle: Option<Trickle>,
    flood: Option<Flood>,
    spew: Option<Spew>,
    /// What the client takes on the connection...
    window: usize,
    /// ...and on a new stream.
    stream_window: usize,
}

struct Trickle {
    stream: u32,
    bytes: Vec<u8>,
    ticks: Interval,
}

struct Flood {
    stream: u32,
    /// Of one DATA frame.
    payload: Vec<u8>,
    /// What is left of its window.
    window: usize,
}

struct Spew {
    stream: u32,
    bytes: Vec<u8>,
}

impl Default for Pours {
    fn default() -> Self {
        Self {
            trickle: None,
            flood: None,
            spew: None,
            window: WINDOW,
            stream_window: WINDOW,
        }
    }
}

impl Pours {
    /// These bytes at every tick.
    pub(crate) fn trickle(&mut self, stream: u32, bytes: Vec<u8>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.trickle = Some(Trickle {
            stream,
            bytes,
            ticks,
        });
    }

    /// DATA with this payload as soon as the windows allow.
    pub(crate) fn flood(&mut self, stream: u32, payload: Vec<u8>) {
        self.flood = Some(Flood {
            stream,
            payload,
            window: self.stream_window,
        });
    }

    /// These bytes, as fast as they can be written.
    pub(crate) fn spew(&mut self, stream: u32, bytes: Vec<u8>) {
        self.spew = Some(Spew { stream, bytes });
    }

    /// The client has reset `stream`.
    pub(crate) fn stop(&mut self, stream: u32) {
        self.trickle.take_if(|trickle| trickle.stream == stream);
        self.flood.take_if(|flood| flood.stream == stream);
        self.spew.take_if(|spew| spew.stream == stream);
    }

    /// The client has sent SETTINGS; a window among them is that of new streams.
    pub(crate) fn settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks_exact(6) {
            if entry[..2] == setting::INITIAL_WINDOW_SIZE.to_be_bytes() {
                self.stream_window = number(&entry[2..]);
            }
        }
    }

    /// The client has sent WINDOW_UPDATE.
    pub(crate) fn widen(&mut self, stream: u32, payload: &[u8]) {
        match &mut self.flood {
            _ if stream == 0 => self.window += number(payload),
            Some(flood) if flood.stream == stream => flood.window += number(payload),
            _ => {}
        }
    }

    /// What is to be written next, once it may be. Nothing is lost when this is
    /// not awaited to its end.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        if let Some(flood) = &mut self.flood
            && flood.payload.len() <= flood.window.min(self.window)
        {
            flood.window -= flood.payload.len();
            self.window -= flood.payload.len();
            return data(flood.stream, flag::NONE, &flood.payload);
        }
        if let Some(spew) = &self.spew {
            return spew.bytes.clone();
        }
        match &mut self.trickle {
            Some(trickle) => {
                trickle.ticks.tick().await;
                trickle.bytes.clone()
            }
            None => pending().await,
        }
    }
}

/// The number that a frame carries.
fn number(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, u32::from_be_bytes) as usize
}
