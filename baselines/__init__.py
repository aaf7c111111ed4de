"""The methods that aSeqDIP is compared with: a file and a function each, with one signature."""
