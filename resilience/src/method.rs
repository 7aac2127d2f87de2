//! Which method a request calls, and sets of methods.

use std::{borrow::Cow, fmt, sync::Arc};

use http::Extensions;
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

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.iter().any(|each| each == name)
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
    /// What `path` says: its last two parts.
    pub(crate) fn of_path(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
        Self { service, method }
    }

    /// What generated code says, even behind a path prefix.
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

impl fmt::Display for MethodName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_as_a_whole() {
        let name = MethodName::of_path("/user.UserService/GetUser");
        assert!(name.is("user.UserService/GetUser"));
        assert!(!name.is("user.UserService/GetUsers"));
        assert!(!name.is("user.UserServic/eGetUser"));
        assert!(!name.is(""));
        assert_eq!(name.to_string(), "user.UserService/GetUser");
    }

    #[test]
    fn generated_code_names_the_method() {
        let mut extensions = Extensions::new();
        assert_eq!(MethodName::generated(&extensions), None);
        extensions.insert(GrpcMethod::new("user.UserService", "GetUser"));
        let name = MethodName::generated(&extensions).unwrap();
        assert!(name.is("user.UserService/GetUser"));
    }
}
