//! A request body, as a script: what arrives is what was sent.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::{BufMut as _, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use resilience::{ResilienceConfig, ResilienceLayer};
use tonic::{GrpcMethod, body::Body};
use tower::{Layer as _, Service as _, service_fn};

use super::{
    script::{Step, body, header},
    time::in_virtual_time,
};

/// Bytes that are kept for another attempt: few, so that a script is soon
/// beyond them.
const BYTES_MAX: usize = 64;
/// Frames that are kept.
const FRAMES_MAX: usize = 1024;
const ATTEMPTS: usize = 3;

/// What an upstream reads of one request.
#[derive(Debug, Clone, Default, PartialEq)]
struct Received {
    data: BytesMut,
    trailers: HeaderMap,
    end: End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum End {
    /// It was dropped before it ended.
    #[default]
    Cut,
    Whole,
    Error,
}

/// Checks one script.
pub fn check(input: &[u8]) {
    let mut steps = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(step) = Step::read(line) {
            // One that starts over has no end to compare with.
            if !matches!(step, Step::Again) {
                steps.push(step);
            }
        } else if let Some((name, value)) = header(line)
            && let Some(Step::Trailers(trailers)) = steps.last_mut()
        {
            trailers.append(name, value);
        }
    }
    let (sent, attempts) = sent(&steps);
    let received = in_virtual_time(call(body(steps)));

    assert_eq!(received.len(), attempts, "{sent:?}");
    for received in received {
        if received.end == End::Cut {
            assert!(attempts == 1 && sent.data.starts_with(&received.data));
        } else {
            assert_eq!(received, sent);
        }
    }
}

/// What a body of these steps amounts to, and how often it is sent: again, when
/// it is complete at once and small enough; not at all, when it fails at once.
fn sent(steps: &[Step]) -> (Received, usize) {
    let mut sent = Received {
        end: End::Whole,
        ..Received::default()
    };
    let mut at_once = true;
    let mut frames = 0;
    for step in steps {
        let fits = sent.data.len() <= BYTES_MAX && frames <= FRAMES_MAX;
        match step {
            Step::Data(data) => {
                sent.data.put_slice(data);
                frames += 1;
            }
            Step::Trailers(trailers) => {
                at_once = false;
                for (name, value) in trailers {
                    sent.trailers.append(name, value.clone());
                }
            }
            Step::Wait(_) | Step::Yield => at_once = false,
            Step::Fail(_) => {
                sent.end = End::Error;
                return (sent, usize::from(!(at_once && fits)));
            }
            Step::Hang => {
                sent.end = End::Cut;
                return (sent, 1);
            }
            Step::Again => unreachable!("left out"),
        }
    }
    let fits = sent.data.len() <= BYTES_MAX && frames <= FRAMES_MAX;
    (sent, if at_once && fits { ATTEMPTS } else { 1 })
}

/// One call to an upstream that reads the whole body and says UNAVAILABLE.
async fn call(body: Body) -> Vec<Received> {
    let received = Rc::new(RefCell::new(Vec::new()));
    let upstream = {
        let received = Rc::clone(&received);
        service_fn(move |request: Request<Body>| {
            let number = received.borrow().len();
            received.borrow_mut().push(Received::default());
            upstream(request.into_body(), Rc::clone(&received), number)
        })
    };
    let mut config = ResilienceConfig {
        idempotent: ["test.Test/Test"].into(),
        ..ResilienceConfig::default()
    };
    config.retry.replay_bytes_max = BYTES_MAX;
    config.retry.seed = Some(1);
    let layer = ResilienceLayer::new("upstream", config).expect("valid");
    let mut request = Request::new(body);
    request
        .extensions_mut()
        .insert(GrpcMethod::new("test.Test", "Test"));

    let answer = layer.layer(upstream).call(request).await;

    assert!(answer.is_err());
    received.take()
}

async fn upstream(
    mut body: Body,
    received: Rc<RefCell<Vec<Received>>>,
    number: usize,
) -> Result<Response<Body>, Infallible> {
    let end = loop {
        let frame = match body.frame().await {
            None => break End::Whole,
            Some(Err(_)) => break End::Error,
            Some(Ok(frame)) => frame,
        };
        let received = &mut received.borrow_mut()[number];
        match frame.into_data() {
            Ok(data) => received.data.put_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                for (name, value) in &trailers {
                    received.trailers.append(name, value.clone());
                }
            }
        }
    };
    received.borrow_mut()[number].end = end;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    Ok(response)
}
