"""Models and adapters as llama.cpp and Ollama read them: GGUF files, a Modelfile, and a check by llama.cpp itself."""
