//! Why there are no pictures from a camera.

/// Why a camera gives no pictures, or no more. Addresses are without passwords.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// No connection, or it broke.
    #[error("{camera}: {reason}; is the camera on, and the address right?")]
    Unreachable {
        /// The camera's address.
        camera: String,
        /// What went wrong.
        reason: String,
    },
    /// It answered with another status than 200.
    #[error("{camera} answers {status}{hint}")]
    Status {
        /// The camera's address.
        camera: String,
        /// Code and words.
        status: String,
        /// What to do about it; begins with its own separator.
        hint: String,
        /// The code.
        code: u16,
    },
    /// What it answered is no HTTP, or has no bounds.
    #[error("{camera} does not speak HTTP as cameras do: {problem}")]
    NoHttp {
        /// The camera's address.
        camera: String,
        /// What is wrong.
        problem: String,
    },
    /// It sends something, but no JPEG pictures.
    #[error("{camera} sends no JPEG pictures: {what}")]
    NoPictures {
        /// Address, or standard input.
        camera: String,
        /// What came instead.
        what: String,
    },
}

impl CameraError {
    /// The exit code that it means.
    pub fn exit_code(&self) -> u8 {
        match self {
            CameraError::Unreachable { .. } => 75,
            CameraError::Status { code: 404 | 410, .. } => 3,
            CameraError::Status { code: 401 | 403 | 407, .. } => 4,
            CameraError::Status { code: 500.., .. } => 75,
            CameraError::Status { .. } | CameraError::NoHttp { .. } | CameraError::NoPictures { .. } => 1,
        }
    }
}
