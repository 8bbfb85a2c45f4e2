use super::*;

#[test]
fn few_connections_have_large_buffers_and_many_never_have_more_than_there_is() {
    for connections in [1, 10, 320, 1024] {
        let plan = MemoryPlan::of(MemoryPlan::least(4 * LARGEST, connections), connections);
        let buffers = Buffers::new(plan.connection_buffers, connections);
        let all: Vec<Buffer> = (0..connections).map(|_| buffers.take()).collect();
        let sizes: Vec<usize> = all.iter().map(Buffer::bytes).collect();
        assert!(sizes.iter().sum::<usize>() <= plan.connection_buffers, "{sizes:?}");
        assert!(sizes.iter().rev().is_sorted() && sizes[0] > 8 * MemoryPlan::LEAST_BUFFER, "{sizes:?}");
        drop(all);
        assert_eq!(buffers.take().bytes(), sizes[0], "all is given back");
    }
}
