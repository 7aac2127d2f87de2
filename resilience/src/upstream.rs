//! What the layers of one upstream share.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::Request;
use tonic::Status;

use crate::{
    classify::{Classify, GrpcClassifier, Outcome, RetryRule},
    config::{ConfigError, ResilienceConfig},
    method::MethodName,
    method_config::MethodPolicy,
    metrics::OTHER,
    rejection::Rejection,
};

/// Methods beyond those that the configuration names that get a place of their
/// own; the rest share one.
pub(crate) const UNNAMED_MAX: usize = 64;

/// One upstream: its name, its methods and what each is allowed, and the
/// configuration that all layers around it are made from.
///
/// A cheap handle. [`ResilienceLayer`](crate::ResilienceLayer) makes one of its
/// own; who composes the [`layers`](crate::layers) by hand makes it first, and
/// each layer from it:
///
/// ```
/// use resilience::{ResilienceConfig, Upstream, layers::{BreakerLayer, DeadlineLayer}};
///
/// let upstream = Upstream::new("user-service", ResilienceConfig::default())?;
/// let deadline = DeadlineLayer::new(&upstream);
/// let breaker = BreakerLayer::new(&upstream);
/// # Ok::<_, resilience::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    config: ResilienceConfig,
    /// The methods that the configuration names.
    named: Vec<(String, MethodPolicy)>,
    /// Filled from the front, as other methods are first called.
    unnamed: [OnceLock<String>; UNNAMED_MAX],
    /// What a method is allowed that the configuration does not name.
    other: MethodPolicy,
}

/// The place of a method in an [`Upstream`]. The first is that of all methods
/// without a place of their own, then come those that are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodIndex(u32);

impl MethodIndex {
    /// A method without a place of its own.
    pub(crate) const OTHER: Self = Self(0);

    fn place(self) -> usize {
        self.0 as usize
    }
}

impl Upstream {
    /// An upstream called `name`, in metrics and messages.
    ///
    /// # Errors
    /// The first rule that `config` breaks.
    pub fn new(name: &str, config: ResilienceConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let shared = Shared {
            name: name.to_owned(),
            named: config
                .named_methods()
                .map(|name| (name.to_owned(), config.method_policy(name)))
                .collect(),
            unnamed: [const { OnceLock::new() }; UNNAMED_MAX],
            other: config.base_policy(),
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &ResilienceConfig {
        &self.shared.config
    }

    /// What the method at `index` is allowed.
    pub(crate) fn policy(&self, index: MethodIndex) -> &MethodPolicy {
        let named = index.place().checked_sub(1);
        named
            .and_then(|named| self.shared.named.get(named))
            .map_or(&self.shared.other, |(_, policy)| policy)
    }

    /// The place of the method that `request` calls.
    ///
    /// A method gets a place of its own when the configuration names it, or
    /// when generated code does, up to a bound: there are as many of those as
    /// the program has methods, whatever paths its users ask for.
    pub(crate) fn index_of<R>(&self, request: &Request<R>) -> MethodIndex {
        self.index(request, MethodName::generated(request.extensions()))
    }

    /// The same, for who knows already what generated code says.
    pub(crate) fn index<R>(
        &self,
        request: &Request<R>,
        generated: Option<MethodName<'_>>,
    ) -> MethodIndex {
        let named = &self.shared.named;
        let method = generated.unwrap_or_else(|| MethodName::of_path(request.uri().path()));
        let place = |index: usize| {
            // There are fewer by far than a u32 can count.
            u32::try_from(index + 1).map_or(MethodIndex::OTHER, MethodIndex)
        };
        if let Some(index) = named.iter().position(|(name, _)| method.is(name)) {
            return place(index);
        }
        if generated.is_some() {
            for (index, unnamed) in self.shared.unnamed.iter().enumerate() {
                let name = unnamed.get_or_init(|| method.to_string());
                if method.is(name) {
                    return place(named.len() + index);
                }
            }
        }
        MethodIndex::OTHER
    }

    /// How many places there are, whether they have a name yet or not.
    fn places(&self) -> usize {
        1 + self.shared.named.len() + UNNAMED_MAX
    }

    /// The name of the method at `index`.
    pub(crate) fn method_name(&self, index: MethodIndex) -> &str {
        self.name_at(index.place()).unwrap_or(OTHER)
    }

    /// The name of the method at `place`, if it has one.
    fn name_at(&self, place: usize) -> Option<&str> {
        let index = place.checked_sub(1)?;
        let named = &self.shared.named;
        match index.checked_sub(named.len()) {
            None => Some(&named[index].0),
            Some(index) => self.shared.unnamed.get(index)?.get().map(String::as_str),
        }
    }

    fn classifier(&self) -> &dyn Classify {
        match &self.shared.config.policies.classifier {
            Some(classifier) => &**classifier,
            None => &GrpcClassifier,
        }
    }

    /// Whether the attempt behind `status` may be made again.
    pub(crate) fn retry_rule(&self, status: &Status) -> RetryRule {
        if Rejection::of(status).is_some() {
            return RetryRule::Never;
        }
        self.classifier().retry(status)
    }

    /// What the attempt behind `status` says about the upstream.
    pub(crate) fn outcome(&self, status: &Status) -> Outcome {
        if Rejection::of(status).is_some() {
            return Outcome::Ignored;
        }
        self.classifier().outcome(status)
    }

    /// Whether the upstream works, and `status` is its answer.
    pub(crate) fn is_answer(&self, status: &Status) -> bool {
        self.outcome(status) == Outcome::Success
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// A `T` for each method of an upstream, found by its place.
pub(crate) struct PerMethod<T> {
    upstream: Upstream,
    make: Make<T>,
    places: Box<[OnceLock<T>]>,
}

/// Is given the names of the upstream and of the method.
type Make<T> = Box<dyn Fn(&str, &str) -> T + Send + Sync>;

impl<T> PerMethod<T> {
    /// `make` is given the names of the upstream and of the method, or of what
    /// stands for those without a place, and is called now for what is known
    /// now.
    pub(crate) fn new(
        upstream: &Upstream,
        make: impl Fn(&str, &str) -> T + Send + Sync + 'static,
    ) -> Self {
        let places = upstream.places();
        let table = Self {
            upstream: upstream.clone(),
            make: Box::new(make),
            places: (0..places).map(|_| OnceLock::new()).collect(),
        };
        for place in 0..=upstream.shared.named.len() {
            table.at(place);
        }
        table
    }

    #[inline]
    pub(crate) fn get(&self, index: MethodIndex) -> &T {
        self.at(index.place())
    }

    #[inline]
    fn at(&self, place: usize) -> &T {
        self.places[place].get_or_init(|| {
            let method = self.upstream.name_at(place).unwrap_or(OTHER);
            (self.make)(self.upstream.name(), method)
        })
    }
}

impl<T> fmt::Debug for PerMethod<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerMethod")
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tonic::GrpcMethod;

    use super::*;

    fn generated(method: &str) -> Request<()> {
        let method: &'static str = method.to_owned().leak();
        let mut request = Request::new(());
        request
            .extensions_mut()
            .insert(GrpcMethod::new("pkg.Service", method));
        request
    }

    #[test]
    fn a_method_beyond_the_bound_is_other() {
        let config = ResilienceConfig {
            methods: ["pkg.Service/Known"].into(),
            ..ResilienceConfig::default()
        };
        let upstream = Upstream::new("upstream", config).unwrap();
        let table = PerMethod::new(&upstream, |_, method| method.to_owned());
        let of = |request: &Request<()>| table.get(upstream.index_of(request)).to_string();

        assert_eq!(of(&generated("Known")), "pkg.Service/Known");
        for index in 0..UNNAMED_MAX {
            let method = format!("M{index}");
            assert_eq!(of(&generated(&method)), format!("pkg.Service/{method}"));
        }
        assert_eq!(of(&generated("OneTooMany")), "other");
        assert_eq!(of(&generated("M0")), "pkg.Service/M0");
        assert_eq!(of(&Request::new(())), "other");
    }

    #[test]
    fn a_path_alone_names_a_method_that_is_known_and_no_other() {
        let config = ResilienceConfig {
            idempotent: ["pkg.Service/Known"].into(),
            ..ResilienceConfig::default()
        };
        let upstream = Upstream::new("upstream", config).unwrap();
        let table = PerMethod::new(&upstream, |_, method| method.to_owned());
        for (path, method) in [
            ("http://host/pkg.Service/Known", "pkg.Service/Known"),
            ("http://host/pkg.Service/Unknown", "other"),
        ] {
            let request = Request::builder().uri(path).body(()).unwrap();
            let index = upstream.index_of(&request);
            assert_eq!(table.get(index), method);
            assert_eq!(upstream.policy(index).idempotent, method != "other");
        }
    }
}
