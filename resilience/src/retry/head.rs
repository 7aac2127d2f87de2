//! All of a request but its body, so that it can be sent again.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use tonic::GrpcMethod;

use crate::deadline::Deadline;

/// A copy of a request, without its body.
///
/// Hardly any call looks back at it, so it is made to be cheap to make: of a
/// call without metadata of its own it takes no memory but its own.
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

type Header = (HeaderName, HeaderValue);

/// Headers without a memory of their own that a generated client sets: `te`,
/// `content-type`, and two more.
const FEW: usize = 4;

/// Headers in their order. A copy of a map allocates twice, and hashes.
#[derive(Debug)]
struct Headers {
    few: [Option<Header>; FEW],
    more: Vec<Header>,
}

impl Headers {
    fn of(map: &HeaderMap) -> Self {
        let mut all = map
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Self {
            few: [all.next(), all.next(), all.next(), all.next()],
            more: all.collect(),
        }
    }

    fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(FEW + self.more.len());
        for (name, value) in self.few.iter().flatten().chain(&self.more) {
            map.append(name.clone(), value.clone());
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
