//! The one place of generated code. `tests/generated_code.rs` keeps it equal to the `.proto` files.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

pub mod scouter {
    pub mod grpc {
        pub mod v1 {
            include!("generated/scouter.grpc.v1.rs");
        }
    }
    pub mod message {
        pub mod v1 {
            include!("generated/scouter.message.v1.rs");
        }
    }
}
