//! HTTP/2 frames, written by hand (RFC 9113), so that wrong ones can be written
//! too. Header blocks are HPACK literals that are never indexed: nothing has to
//! be remembered between them.

use std::iter;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes in front of every payload.
pub(crate) const HEAD_LENGTH: usize = 9;

/// Longest payload that a peer takes unless it says otherwise, which no client
/// of ours does.
const PAYLOAD_MAX: usize = 16_384;

/// What a frame is.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// What it is besides.
pub(crate) mod flag {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
}

/// Names of settings.
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// Why a stream or a connection ends.
pub(crate) mod reason {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const SETTINGS_TIMEOUT: u32 = 4;
    pub(crate) const STREAM_CLOSED: u32 = 5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const COMPRESSION_ERROR: u32 = 9;
    pub(crate) const CONNECT_ERROR: u32 = 10;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
    pub(crate) const INADEQUATE_SECURITY: u32 = 12;
    pub(crate) const HTTP_1_1_REQUIRED: u32 = 13;
}

/// Names and values of headers.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

/// Any frame at all.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    // The length is 24 bits; nothing here comes near.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

/// HEADERS, and CONTINUATION where one frame is too small.
pub(crate) fn headers(stream: u32, flags: u8, fields: Fields<'_>) -> Vec<u8> {
    let block = block(fields);
    let kinds = iter::once(kind::HEADERS).chain(iter::repeat(kind::CONTINUATION));
    let count = block.len().div_ceil(PAYLOAD_MAX);
    let mut frames = Vec::new();
    for (index, (kind, part)) in kinds.zip(block.chunks(PAYLOAD_MAX)).enumerate() {
        let mut flags = if index == 0 { flags } else { flag::NONE };
        if index + 1 == count {
            flags |= flag::END_HEADERS;
        }
        frames.extend(frame(kind, flags, stream, part));
    }
    frames
}

pub(crate) fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, flag::NONE, stream, &reason.to_be_bytes())
}

/// `last` is the last stream that was, or will be, looked at.
pub(crate) fn go_away(last: u32, reason: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
    frame(kind::GOAWAY, flag::NONE, 0, &payload)
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(kind::SETTINGS, flag::NONE, 0, &payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(
        kind::WINDOW_UPDATE,
        flag::NONE,
        stream,
        &increment.to_be_bytes(),
    )
}

/// A header block.
pub(crate) fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // literal, without indexing, with a new name
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A string that is not Huffman-coded: its length, with a prefix of 7 bits, and
/// its bytes (RFC 7541, 5.1 and 5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    match text.len().checked_sub(PREFIX_MAX) {
        None => block.push(low_bits(text.len())),
        Some(mut rest) => {
            block.push(low_bits(PREFIX_MAX));
            while rest > PREFIX_MAX {
                block.push(low_bits(rest) | 0x80);
                rest >>= 7;
            }
            block.push(low_bits(rest));
        }
    }
    block.extend(text.as_bytes());
}

fn low_bits(value: usize) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// What stands in front of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn of(bytes: &[u8; HEAD_LENGTH]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}
