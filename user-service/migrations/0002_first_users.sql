-- Two who may order and one who may not, for demonstrations and tests.
INSERT INTO users (user_id, name, email, active) VALUES
    ('user-123', 'Иван Иванов', 'ivan@example.com', 1),
    ('user-456', 'Мария Петрова', 'maria@example.com', 1),
    ('user-789', 'Пётр Сидоров', 'petr@example.com', 0);
