//! Which method a request calls, and sets of methods.

use std::{borrow::Cow, sync::Arc};

use http::{Extensions, Request};
use tonic::GrpcMethod;

/// A set of methods, each named `package.Service/Method`.
///
/// The names of a .proto are best taken from generated code:
/// `proto::user::IDEMPOTENT_METHODS.into()`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MethodSet(Arc<[Cow<'static, str>]>);

impl MethodSet {
    /// The names, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    pub(crate) fn contains(&self, method: MethodName<'_>) -> bool {
        self.iter().any(|name| method.is(name))
    }
}

impl From<&[&'static str]> for MethodSet {
    fn from(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| Cow::Borrowed(*name)).collect())
    }
}

impl<const N: usize> From<[&'static str; N]> for MethodSet {
    fn from(names: [&'static str; N]) -> Self {
        Self::from(&names[..])
    }
}

impl FromIterator<String> for MethodSet {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self(names.into_iter().map(Cow::Owned).collect())
    }
}

/// The method of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodName<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
}

impl<'a> MethodName<'a> {
    /// What generated code says, else what the path says.
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        Self::generated(request.extensions()).unwrap_or_else(|| {
            let path = request.uri().path();
            let path = path.strip_prefix('/').unwrap_or(path);
            let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
            Self { service, method }
        })
    }

    /// What generated code says. Only such names make metric labels: there are
    /// as many as the program has methods, whatever paths its users ask for.
    pub(crate) fn generated(extensions: &'a Extensions) -> Option<Self> {
        extensions.get::<GrpcMethod<'static>>().map(|name| Self {
            service: name.service(),
            method: name.method(),
        })
    }

    /// Whether this is `package.Service/Method`.
    pub(crate) fn is(self, name: &str) -> bool {
        name.len() == self.service.len() + 1 + self.method.len()
            && name.starts_with(self.service)
            && name.ends_with(self.method)
            && name.as_bytes()[self.service.len()] == b'/'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_code_names_the_method_even_behind_a_path_prefix() {
        let mut request = Request::new(());
        *request.uri_mut() = "http://host/prefix/user.UserService/GetUser"
            .parse()
            .unwrap();
        request
            .extensions_mut()
            .insert(GrpcMethod::new("user.UserService", "GetUser"));

        let set = MethodSet::from(["user.UserService/GetUser"]);
        assert!(set.contains(MethodName::of(&request)));
        assert!(!MethodSet::from(["user.UserService/GetUsers"]).contains(MethodName::of(&request)));
        assert!(!MethodSet::default().contains(MethodName::of(&request)));
    }

    #[test]
    fn without_generated_code_the_path_names_the_method() {
        let mut request = Request::new(());
        *request.uri_mut() = "http://host/user.UserService/GetUser".parse().unwrap();

        assert!(MethodName::of(&request).is("user.UserService/GetUser"));
        assert_eq!(MethodName::generated(request.extensions()), None);
    }
}
