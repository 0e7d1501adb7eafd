//! Generates the code of `convoy.proto`; protox compiles it, so nobody installs protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=convoy.proto");
    let descriptors = protox::compile(["convoy.proto"], ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
