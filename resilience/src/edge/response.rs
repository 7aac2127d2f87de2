//! Head and trailers → [`Status`].

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Code, Status, body::Body, metadata::MetadataMap};

use super::normalise::{Phase, normalise};

// Made once: a lookup by text parses the text each time, which cost more than
// all the rest of this file.
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Looks at a response head.
///
/// - A status in it is final (gRPC calls this Trailers-Only).
/// - Without one, a head that is not gRPC (an error page of a proxy, say) is an
///   error by its HTTP status, and its body is dropped unread. tonic would read
///   the page as a message and call it INTERNAL.
/// - Else the trailers will tell.
pub(super) fn open(mut response: Response<Body>) -> Result<Response<EdgeBody>, Status> {
    match status_of(response.headers_mut()) {
        Some(Ok(())) => return Ok(response.map(|_| EdgeBody::default())),
        Some(Err(status)) => return Err(status),
        None => {}
    }
    if response.status() != StatusCode::OK {
        return Err(of_http_status(response.status()));
    }
    if !is_grpc(response.headers()) {
        return Err(Status::unknown(
            "the response is not gRPC: its content-type says otherwise",
        ));
    }
    if response.body().is_end_stream() {
        return Err(missing_status());
    }
    Ok(response.map(|body| EdgeBody { body: Some(body) }))
}

/// A response body that ends in trailers that say OK, or in a [`Status`] as its
/// error. The default is one that is over.
#[derive(Debug, Default)]
pub struct EdgeBody {
    /// `None` after the end.
    body: Option<Body>,
}

impl http_body::Body for EdgeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let result = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(mut frame)) => match frame.trailers_mut() {
                None => return Poll::Ready(Some(Ok(frame))),
                Some(trailers) => check_trailers(trailers).map(|()| frame),
            },
            Some(Err(error)) => Err(normalise(Box::new(error), Phase::Body)),
            None => Err(missing_status()),
        };
        self.body = None;
        Poll::Ready(Some(result))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn check_trailers(trailers: &mut HeaderMap) -> Result<(), Status> {
    status_of(trailers).unwrap_or_else(|| Err(missing_status()))
}

/// The status in `headers`, if there is one.
fn status_of(headers: &mut HeaderMap) -> Option<Result<(), Status>> {
    // Most heads and trailers have one or two entries: to go through them is
    // cheaper than to hash a name.
    let (_, code) = headers.iter().find(|(name, _)| **name == STATUS)?;
    let code = Code::from_bytes(code.as_bytes());
    if headers.len() > 1 {
        remove_malformed_details(headers);
    }
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let headers = &*headers;
    let status = Status::from_header_map(headers);
    // A message that is not UTF-8 makes tonic forget the code.
    let status = status.filter(|status| status.code() == code).or_else(|| {
        let mut headers = headers.clone();
        headers.remove(&MESSAGE);
        Status::from_header_map(&headers)
    });
    Some(Err(status.unwrap_or_else(missing_status)))
}

/// Details that are not base64 make tonic 0.14 panic in the task of the caller,
/// whatever the status; the rest of the status is worth having.
fn remove_malformed_details(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| *name == DETAILS) {
        return;
    }
    let metadata = MetadataMap::from_headers(std::mem::take(headers));
    let malformed = metadata
        .get_bin(DETAILS.as_str())
        .is_some_and(|value| value.to_bytes().is_err());
    *headers = metadata.into_headers();
    if malformed {
        headers.remove(&DETAILS);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .iter()
        .find(|(name, _)| **name == CONTENT_TYPE)
        .is_some_and(|(_, value)| value.as_bytes().starts_with(b"application/grpc"))
}

/// gRPC's table for a response that has no gRPC status.
fn of_http_status(http: StatusCode) -> Status {
    let code = match http.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(
        code,
        format!("no gRPC status, but HTTP status {}", http.as_u16()),
    )
}

fn missing_status() -> Status {
    Status::unknown("the response ended without a gRPC status")
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio_stream::iter;

    use super::*;

    fn response(headers: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }

    fn body(frames: Vec<Frame<Bytes>>) -> Body {
        Body::new(StreamBody::new(iter(
            frames.into_iter().map(Ok::<_, Status>),
        )))
    }

    fn trailers(headers: &[(&'static str, &'static str)]) -> Frame<Bytes> {
        Frame::trailers(
            headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn a_status_in_the_head_is_the_result() {
        let status = open(response(
            &[
                ("grpc-status", "14"),
                ("grpc-message", "try%20later"),
                ("x-why", "tired"),
            ],
            Body::empty(),
        ))
        .unwrap_err();

        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "try later")
        );
        assert_eq!(status.metadata().get("x-why").unwrap(), "tired");
    }

    #[test]
    fn a_message_that_is_not_utf_8_does_not_cost_the_status_its_code() {
        let headers = [
            ("grpc-status", "14"),
            ("grpc-message", "%ff"),
            ("x-why", "tired"),
        ];
        let status = open(response(&headers, Body::empty())).unwrap_err();

        assert_eq!((status.code(), status.message()), (Code::Unavailable, ""));
        assert_eq!(status.metadata().get("x-why").unwrap(), "tired");
    }

    #[test]
    fn an_ok_in_the_head_is_over_at_once() {
        let response = open(response(&[("grpc-status", "0")], Body::empty())).unwrap();
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn a_status_in_trailers_is_the_error_of_the_body() {
        let frames = vec![
            Frame::data(Bytes::from_static(b"message")),
            trailers(&[("grpc-status", "14"), ("grpc-message", "late")]),
        ];
        let mut body = open(response(&[], body(frames))).unwrap().into_body();

        assert!(body.frame().await.unwrap().unwrap().is_data());
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "late")
        );
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_without_trailers_is_an_error() {
        let frames = vec![Frame::data(Bytes::from_static(b"message"))];
        let mut body = open(response(&[], body(frames))).unwrap().into_body();

        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert_eq!(
            body.frame().await.unwrap().unwrap_err().code(),
            Code::Unknown
        );
    }

    #[tokio::test]
    async fn details_that_are_not_base64_are_removed_and_the_status_stays() {
        let broken = ("grpc-status-details-bin", "!!not base64!!");

        let status = open(response(&[("grpc-status", "3"), broken], Body::empty())).unwrap_err();
        assert_eq!(
            (status.code(), status.details()),
            (Code::InvalidArgument, &b""[..])
        );

        let frames = vec![trailers(&[("grpc-status", "0"), broken])];
        let mut body = open(response(&[], body(frames))).unwrap().into_body();
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert!(!trailers.contains_key("grpc-status-details-bin"));
    }

    #[test]
    fn details_that_are_base64_arrive() {
        let details = ("grpc-status-details-bin", "aGVsbG8");
        let status = open(response(&[("grpc-status", "3"), details], Body::empty())).unwrap_err();
        assert_eq!(status.details(), b"hello");
    }

    #[test]
    fn an_error_page_of_a_proxy_is_an_error_by_its_http_status() {
        for (http, code) in [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (500, Code::Unknown),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
        ] {
            let mut page = Response::new(Body::new(Full::new(Bytes::from_static(b"sorry"))));
            *page.status_mut() = StatusCode::from_u16(http).unwrap();
            assert_eq!(open(page).unwrap_err().code(), code, "{http}");
        }
    }

    #[test]
    fn a_page_that_is_not_grpc_is_unknown() {
        let page = Response::new(Body::new(Full::new(Bytes::from_static(b"<html>"))));
        assert_eq!(open(page).unwrap_err().code(), Code::Unknown);
    }
}
