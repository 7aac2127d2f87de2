//! What reflection shows: the services that are served, and nothing else.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic_health::pb::{FILE_DESCRIPTOR_SET as HEALTH, health_server};
use tonic_reflection::{
    pb,
    server::{
        Builder,
        v1::{self, ServerReflectionServer as V1},
        v1alpha::{self, ServerReflectionServer as V1Alpha},
    },
};

use crate::StartError;

/// Reflection over `services`, as far as `descriptors` knows them, in both
/// versions of its protocol.
///
/// A file that declares services none of which is served is left out, so that a
/// client cannot find by name what it cannot call. The two versions and health
/// are shown too.
pub(super) fn services(
    descriptors: &[u8],
    services: &[&str],
) -> Result<
    (
        V1<impl v1::ServerReflection>,
        V1Alpha<impl v1alpha::ServerReflection>,
    ),
    StartError,
> {
    let failed = |error: &dyn std::fmt::Display| StartError::Reflection(error.to_string());
    let mut shown = FileDescriptorSet::decode(descriptors).map_err(|error| failed(&error))?;
    shown.file.retain(|file| {
        let served = |name: &str| services.contains(&format!("{}.{name}", file.package()).as_str());
        file.service.is_empty() || file.service.iter().any(|service| served(service.name()))
    });
    let builder = || {
        let own = [
            health_server::SERVICE_NAME,
            pb::v1::server_reflection_server::SERVICE_NAME,
            pb::v1alpha::server_reflection_server::SERVICE_NAME,
        ];
        let builder = Builder::configure()
            .register_file_descriptor_set(shown.clone())
            .register_encoded_file_descriptor_set(HEALTH)
            .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET);
        services
            .iter()
            .copied()
            .chain(own)
            .fold(builder, Builder::with_service_name)
    };
    Ok((
        builder().build_v1().map_err(|error| failed(&error))?,
        builder().build_v1alpha().map_err(|error| failed(&error))?,
    ))
}
