# What an extension gets from include(${Slicer_USE_FILE}): its name, the install folder, testing and the macros.

set(EXTENSION_NAME ${PROJECT_NAME})
set(EXTENSION_SOURCE_DIR ${CMAKE_SOURCE_DIR})
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")

option(BUILD_TESTING "Register the module's tests" ON)
if(BUILD_TESTING)
  enable_testing()
endif()

find_package(Python3 REQUIRED COMPONENTS Interpreter)

include(${CMAKE_CURRENT_LIST_DIR}/PythonScripts.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/ScriptedModule.cmake)
