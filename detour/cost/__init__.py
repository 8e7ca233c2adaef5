"""What training costs: FLOPs, memory, matmul throughput, the plan of a run, and the record that the ledger keeps."""
