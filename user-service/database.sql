-- What a new PostgreSQL of docker-compose.yml needs besides the database of the orders.
CREATE DATABASE users;
