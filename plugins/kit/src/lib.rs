//! What plugins written in Rust share: the contract's types, the host's calls, and shorthands for them.
//!
//! It owns no decision: what a phase does stands in the plugin.

// Generated code: its pointers are checked by the canonical ABI, not by this project's lints.
#[allow(unsafe_code, clippy::indexing_slicing, clippy::unwrap_used)]
mod bindings {
    wit_bindgen::generate!({
        world: "imports",
        path: "../../wit",
        generate_all,
        additional_derives: [PartialEq],
    });
}

pub mod command;
mod error;
mod finding;
pub mod method;
pub mod settings;
pub mod source;
pub mod text;

pub use bindings::deployer::pipeline::{
    control, environment, http, instance, log, progress, service, target, types,
};
pub use wit_bindgen;

/// Generates the exports of one of the contract's worlds, over this crate's types.
///
/// ```text
/// deployer_plugin::world!("verifier");
/// struct Smoke;
/// export!(Smoke);
/// ```
#[macro_export]
macro_rules! world {
    ($world:literal) => {
        #[allow(unsafe_code, clippy::indexing_slicing, clippy::unwrap_used)]
        mod bindings {
            $crate::wit_bindgen::generate!({
                world: $world,
                path: "../../wit",
                runtime_path: "deployer_plugin::wit_bindgen::rt",
                pub_export_macro: true,
                with: {
                    "deployer:pipeline/types@0.9.0": deployer_plugin::types,
                    "deployer:pipeline/service@0.9.0": deployer_plugin::service,
                    "deployer:pipeline/target@0.9.0": deployer_plugin::target,
                    "deployer:pipeline/environment@0.9.0": deployer_plugin::environment,
                    "deployer:pipeline/instance@0.9.0": deployer_plugin::instance,
                    "deployer:pipeline/http@0.9.0": deployer_plugin::http,
                    "deployer:pipeline/log@0.9.0": deployer_plugin::log,
                    "deployer:pipeline/progress@0.9.0": deployer_plugin::progress,
                    "deployer:pipeline/control@0.9.0": deployer_plugin::control,
                },
            });
        }
        use bindings::exports::deployer::pipeline as phases;
    };
}
