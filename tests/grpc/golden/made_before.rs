//! The messages with additions as a peer has them that knows none: names, numbers and types of the contract alone.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskResult {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(string, tag = "2")]
    worker_id: String,
    #[prost(string, tag = "3")]
    status: String,
    #[prost(string, tag = "4")]
    logs: String,
    #[prost(string, tag = "5")]
    result_location: String,
    #[prost(string, repeated, tag = "6")]
    output_files: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskLogRequest {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(bool, tag = "3")]
    follow: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LogChunk {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(string, tag = "2")]
    content: String,
    #[prost(string, tag = "3")]
    timestamp: String,
    #[prost(bool, tag = "4")]
    is_complete: bool,
    #[prost(string, tag = "5")]
    status: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FileChunk {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(string, tag = "3")]
    task_name: String,
    #[prost(string, tag = "4")]
    file_path: String,
    #[prost(bytes = "vec", tag = "5")]
    data: Vec<u8>,
    #[prost(bool, tag = "6")]
    is_last_chunk: bool,
    #[prost(bool, tag = "7")]
    is_last_file: bool,
    #[prost(int64, tag = "8")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Task {
    #[prost(string, tag = "1")]
    task_id: String,
    #[prost(string, tag = "2")]
    docker_image: String,
    #[prost(string, tag = "3")]
    command: String,
    #[prost(double, tag = "4")]
    req_cpu: f64,
    #[prost(double, tag = "5")]
    req_memory: f64,
    #[prost(double, tag = "6")]
    req_storage: f64,
    #[prost(double, tag = "7")]
    req_gpu: f64,
    #[prost(string, tag = "8")]
    target_worker_id: String,
    #[prost(string, tag = "9")]
    user_id: String,
    #[prost(double, tag = "10")]
    sla_multiplier: f64,
    #[prost(string, tag = "11")]
    task_type: String,
    #[prost(string, tag = "12")]
    task_name: String,
    #[prost(int64, tag = "13")]
    submitted_at: i64,
}
