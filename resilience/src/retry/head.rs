//! All of a request but its body, so that it can be sent again.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_TYPE, TE},
};
use tonic::GrpcMethod;

use crate::deadline::Deadline;

/// A copy of a request, without its body.
///
/// Hardly any call looks back at it, so it is made to be cheap to make: that of
/// a call without metadata of its own allocates nothing.
#[derive(Debug)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Headers,
    extensions: Kept,
}

impl Head {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: Headers::of(request.headers()),
            extensions: Kept::of(request.extensions()),
        }
    }

    pub(crate) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.map();
        *request.extensions_mut() = self.extensions.extensions();
        request
    }
}

/// Headers in their order. A copy of a map allocates twice, and hashes.
#[derive(Debug)]
enum Headers {
    /// What every generated client sets, and nothing else: `te: trailers` and
    /// `content-type: application/grpc`.
    Usual,
    Listed(Vec<(HeaderName, HeaderValue)>),
}

static TE_NAME: HeaderName = TE;
static TYPE_NAME: HeaderName = CONTENT_TYPE;
const TRAILERS: &str = "trailers";
const GRPC: &str = "application/grpc";

impl Headers {
    fn of(map: &HeaderMap) -> Self {
        // To go through two is cheaper than to hash a name.
        let mut entries = map.iter();
        let mut next_is = |usual: &HeaderName, text: &[u8]| {
            let next = entries.next();
            next.is_some_and(|(name, value)| name == usual && value.as_bytes() == text)
        };
        if map.len() == 2
            && next_is(&TE_NAME, TRAILERS.as_bytes())
            && next_is(&TYPE_NAME, GRPC.as_bytes())
        {
            return Self::Usual;
        }
        Self::Listed(
            map.iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    fn map(&self) -> HeaderMap {
        // And one or two more, which every attempt is given.
        let mut map = HeaderMap::with_capacity(4);
        match self {
            Self::Usual => {
                map.insert(TE, HeaderValue::from_static(TRAILERS));
                map.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
            }
            Self::Listed(list) => {
                for (name, value) in list {
                    map.append(name.clone(), value.clone());
                }
            }
        }
        map
    }
}

/// Extensions that are kept. Those of a generated client are known, and copied
/// one by one; where there is another, all are cloned.
#[derive(Debug)]
enum Kept {
    Known {
        method: Option<GrpcMethod<'static>>,
        deadline: Option<Deadline>,
    },
    All(Extensions),
}

impl Kept {
    fn of(extensions: &Extensions) -> Self {
        let method = extensions.get::<GrpcMethod<'static>>().cloned();
        let known = usize::from(method.is_some());
        if extensions.len() == known {
            return Self::Known {
                method,
                deadline: None,
            };
        }
        let deadline = Deadline::of(extensions);
        if extensions.len() == known + usize::from(deadline.is_some()) {
            return Self::Known { method, deadline };
        }
        Self::All(extensions.clone())
    }

    fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        match self {
            Self::Known { method, deadline } => {
                if let Some(method) = method {
                    extensions.insert(method.clone());
                }
                if let Some(deadline) = deadline {
                    extensions.insert(*deadline);
                }
            }
            Self::All(all) => extensions.clone_from(all),
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn request() -> Request<()> {
        let mut request = Request::post("http://host/pkg.Service/Method")
            .version(Version::HTTP_2)
            .body(())
            .unwrap();
        for index in 0..7 {
            let value = HeaderValue::from(index);
            request.headers_mut().append("x-twice", value.clone());
            request
                .headers_mut()
                .append(HeaderName::try_from(format!("x-{index}")).unwrap(), value);
        }
        request
    }

    #[test]
    fn everything_comes_back() {
        let request = request();
        let again = Head::of(&request).request(());

        assert_eq!(again.method(), request.method());
        assert_eq!(again.uri(), request.uri());
        assert_eq!(again.version(), request.version());
        assert_eq!(again.headers(), request.headers());
        assert!(again.extensions().is_empty());
    }

    #[test]
    fn the_usual_headers_come_back_too() {
        let mut request = Request::new(());
        request
            .headers_mut()
            .insert(TE, HeaderValue::from_static(TRAILERS));
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        let head = Head::of(&request);
        assert!(matches!(head.headers, Headers::Usual));
        assert_eq!(head.request(()).headers(), request.headers());

        let mut twice = Request::new(());
        twice
            .headers_mut()
            .append(TE, HeaderValue::from_static(TRAILERS));
        twice
            .headers_mut()
            .append(TE, HeaderValue::from_static(TRAILERS));
        assert_eq!(Head::of(&twice).request(()).headers(), twice.headers());
    }

    #[test]
    fn extensions_come_back_whether_they_are_known_or_not() {
        #[derive(Clone, Debug, PartialEq)]
        struct OfTheCaller(u32);

        let deadline = Deadline(Instant::now() + Duration::from_secs(1));
        let method = || GrpcMethod::new("pkg.Service", "Method");
        for (known, other) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut request = request();
            let extensions = request.extensions_mut();
            if known {
                extensions.insert(method());
                extensions.insert(deadline);
            }
            if other {
                extensions.insert(OfTheCaller(7));
            }
            let length = request.extensions().len();

            let again = Head::of(&request).request(());
            let extensions = again.extensions();
            assert_eq!(extensions.len(), length);
            assert_eq!(extensions.get::<GrpcMethod<'static>>().is_some(), known);
            assert_eq!(Deadline::of(extensions), known.then_some(deadline));
            assert_eq!(extensions.get(), other.then_some(&OfTheCaller(7)));
        }
    }
}
