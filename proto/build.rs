//! Compiles the protos in Rust, and turns what they declare about their
//! methods into constants.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{FileDescriptorSet, method_options::IdempotencyLevel};

const PROTOS: [&str; 4] = ["user.proto", "order.proto", "chaos.proto", "admin.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);

    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    for (package, constants) in method_constants(&descriptors)? {
        fs::write(out.join(format!("{package}.methods.rs")), constants)?;
    }
    tonic_prost_build::configure()
        // Who implements a service in a test implements what the test is about.
        .generate_default_stubs(true)
        .codec_path("crate::codec::OurCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Per package, the source of `METHODS`, `IDEMPOTENT_METHODS` and
/// `STREAMING_METHODS`.
fn method_constants(
    descriptors: &FileDescriptorSet,
) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut packages = Vec::new();
    for file in descriptors
        .file
        .iter()
        .filter(|file| !file.service.is_empty())
    {
        let (mut all, mut idempotent, mut streaming) = (Vec::new(), Vec::new(), Vec::new());
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let level = method
                    .options
                    .as_ref()
                    .map(|options| options.idempotency_level());
                if matches!(
                    level,
                    Some(IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent)
                ) {
                    idempotent.push(name.clone());
                }
                if method.server_streaming() {
                    streaming.push(name.clone());
                }
                all.push(name);
            }
        }
        let mut source = String::new();
        for (meaning, name, methods) in [
            (
                "Every method of the package, as `package.Service/Method`.",
                "METHODS",
                &all,
            ),
            (
                "The methods that the .proto declares safe to repeat.",
                "IDEMPOTENT_METHODS",
                &idempotent,
            ),
            (
                "The methods that answer with a stream.",
                "STREAMING_METHODS",
                &streaming,
            ),
        ] {
            writeln!(source, "/// {meaning}")?;
            writeln!(source, "pub const {name}: &[&str] = &{methods:?};")?;
        }
        packages.push((file.package().to_owned(), source));
    }
    Ok(packages)
}
