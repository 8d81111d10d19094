"""The service around the library: questions in through a queue, moments and answers out in SQL."""
