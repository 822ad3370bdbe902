//! The contract in Rust, generated from `wit/`: the records, the imports' traits, the exports' callers.
//! Nothing is written by hand here.

// Generated code: its pointers are checked by the canonical ABI, not by this project's lints.
#![allow(unsafe_code, clippy::indexing_slicing, clippy::unwrap_used, reason = "generated code")]

wasmtime::component::bindgen!({
    world: "everything",
    path: "../wit",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [serde::Serialize, serde::Deserialize, Clone, PartialEq],
});
